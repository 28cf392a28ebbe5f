"""A mail that came in, as the reader hands it on."""

from dataclasses import dataclass
from datetime import datetime

from relay_project.db.ids import id_time


@dataclass(frozen=True, slots=True)
class Inbound:
    """One stored mail. `recipients` are those that the receiver of this object is to act for."""

    mail_id: int  # of its InboundMail
    mail_from: str  # "" for <>
    recipients: tuple[str, ...]
    octets: bytes  # CRLF lines, as they came
    peer: str  # the address it came from
    helo_name: str = ""
    tls: str = ""  # version; "": clear text
    tries: int = 1  # how often a reader took it

    @property
    def received_at(self) -> datetime:
        """When it came."""
        return id_time(self.mail_id)
