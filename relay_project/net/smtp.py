"""Our SMTP client: one connection, many transactions, pipelined where the server offers it (RFC 5321, RFC 2920)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

from relay_project.net.conversation import (
    ConversationFailed,
    Endpoint,
    Envelope,
    RecipientResult,
    Step,
    Timeouts,
    TlsInfo,
    TlsRequirement,
    Transaction,
)

DEFAULT_TIMEOUTS = Timeouts()

__all__ = [
    "ConversationFailed",
    "Endpoint",
    "Envelope",
    "RecipientResult",
    "SmtpConnection",
    "Step",
    "Timeouts",
    "TlsInfo",
    "TlsRequirement",
    "Transaction",
]


class SmtpConnection:
    """An open connection; `open` makes one, `deliver` carries one mail at a time, `close` says QUIT."""

    endpoint: Endpoint
    source: str | None
    opening_steps: tuple[Step, ...]  # dial, hello, starttls, hello
    extensions: Mapping[str, str]  # EHLO keyword (upper case) -> parameters
    tls: TlsInfo | None
    deliveries: int  # transactions begun on this connection

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        source: str | None,
        helo_name: str,
        tls: TlsRequirement = TlsRequirement.OPPORTUNISTIC,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        deadline: float | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> SmtpConnection:
        """Connect, read the banner, greet, and start TLS as `tls` demands.

        `source` is a local address to bind; `deadline` is a `time.monotonic()` value that cuts everything short.
        `trust` replaces the system's certificates under `verified`. Raises ConversationFailed.
        """
        raise NotImplementedError

    @property
    def usable(self) -> bool:
        """Another transaction may begin now."""
        raise NotImplementedError

    async def deliver(
        self, envelope: Envelope, message: bytes | Sequence[bytes], deadline: float | None = None
    ) -> Transaction:
        """Carry one mail; never raises for what the peer does. `message` has CRLF line ends and no dot-stuffing."""
        raise NotImplementedError

    async def close(self) -> None:
        """Say QUIT, wait shortly for the reply, and close; never raises."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once without a word."""
        raise NotImplementedError
