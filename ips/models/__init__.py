"""Tables of the ips floor."""

from ips.models.server import Sender, Server
from ips.models.site import HeldSite
from ips.models.source_ip import SourceIp

__all__ = ["HeldSite", "Sender", "Server", "SourceIp"]
