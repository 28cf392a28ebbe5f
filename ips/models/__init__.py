"""Tables of the ips floor."""

from ips.models.server import Sender, Server
from ips.models.site import HeldSite, SendCount, SiteLimit
from ips.models.source_ip import SourceIp

__all__ = ["HeldSite", "SendCount", "Sender", "Server", "SiteLimit", "SourceIp"]
