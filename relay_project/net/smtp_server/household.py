"""What all conversations of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.limits import Budget, Limits, PeerBook
from relay_project.net.smtp_server.model import Reception, Service, SmtpReply


@dataclass(slots=True)
class Household:
    """One server's names, limits, certificate and books."""

    hostname: str  # in the greeting
    domain: str  # whose postmaster `RCPT TO:<postmaster>` means (RFC 5321 §4.5.1)
    receptions: Mapping[Service, Reception]
    limits: Limits
    certificates: Certificates
    peers: PeerBook = field(init=False)
    budget: Budget = field(init=False)
    # Mails that are being taken, also of those who did not wait for the answer.
    storing: set[asyncio.Future[SmtpReply]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Open the books."""
        self.peers = PeerBook(self.limits)
        self.budget = Budget(self.limits.octets_in_flight)
