"""Tables of the ips floor."""

from ips.models.incident import Incident, IncidentCause
from ips.models.server import Sender, Server
from ips.models.site import HeldSite, SendCount, SiteLimit, SitePause
from ips.models.source_ip import SourceIp
from ips.models.tls import MtaStsPolicy, TlsOverride, TlsRequirement

__all__ = [
    "HeldSite",
    "Incident",
    "IncidentCause",
    "MtaStsPolicy",
    "SendCount",
    "Sender",
    "Server",
    "SiteLimit",
    "SitePause",
    "SourceIp",
    "TlsOverride",
    "TlsRequirement",
]
