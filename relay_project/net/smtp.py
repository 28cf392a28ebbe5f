"""Our SMTP client: one connection, many transactions, pipelined where the server offers it (RFC 5321, RFC 2920).

    connection = await SmtpConnection.open(Endpoint("mx.example.org", "192.0.2.1"), source=None, helo_name="a.example")
    transaction = await connection.deliver(Envelope("alice@a.example", ("bob@example.org",)), message)
    await connection.close()

`open` raises ConversationFailed; `deliver` never raises for what the peer does, its results say everything.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from relay_project.mail.reply import FailureKind
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
from relay_project.net.smtp_message import WireMessage
from relay_project.net.smtp_open import Opening, Vouch
from relay_project.net.smtp_transaction import Abilities, Conversation
from relay_project.net.smtp_wire import Wire

__all__ = [
    "DEFAULT_TIMEOUTS",
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

DEFAULT_TIMEOUTS = Timeouts()
RESTED_SECONDS = 0.5  # servers close what is idle for some seconds or more; within this one is taken to be listening


class SmtpConnection:
    """An open connection; `open` makes one, `deliver` carries one mail at a time, `close` says QUIT."""

    def __init__(self, opening: Opening, wire: Wire, opened_at: datetime, chunking: bool = True) -> None:
        self.endpoint: Endpoint = opening.endpoint
        self.source: str | None = opening.source
        self.helo_name: str = opening.helo_name
        self.extensions: Mapping[str, str] = opening.extensions  # EHLO keyword in upper case -> its parameters
        self.tls: TlsInfo | None = opening.tls
        self.opened_at = opened_at
        self.opening_steps: tuple[Step, ...] = tuple(opening.steps)  # dial, hello, starttls, hello
        self.deliveries = 0  # transactions begun
        self.refuses_chunks = False  # it offers CHUNKING and does not understand BDAT: open the next one without
        self._wire = wire
        self._timeouts = opening.timeouts
        abilities = Abilities.of(opening.extensions)
        self._abilities = abilities if chunking else abilities._replace(chunking=False)
        self._last_at = time.monotonic()  # when the server was last heard
        self._busy = False
        self._left_open = False  # the last transaction needs a RSET
        self._closing = False

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
        vouch: Vouch | None = None,
        chunking: bool = True,
    ) -> SmtpConnection:
        """Connect, read the banner, greet, and start TLS as `tls` demands.

        `source` is a local address to bind; `deadline` is a `time.monotonic()` value that cuts everything short.
        Under VERIFIED, `trust` replaces the system's certificates, and `vouch` all of them: it alone decides about
        what the server sent. Without `chunking` no BDAT is used although the server offers it. Raises
        ConversationFailed.
        """
        opened_at = datetime.now(UTC)
        opening = Opening(endpoint, source, helo_name, tls, timeouts, deadline, trust, vouch)
        return cls(opening, await opening.run(), opened_at, chunking)

    @property
    def usable(self) -> bool:
        """Another transaction may begin now."""
        return self._wire.usable and not self._closing and not self._busy

    async def deliver(
        self, envelope: Envelope, message: bytes | Sequence[bytes] | WireMessage, deadline: float | None = None
    ) -> Transaction:
        """Carry one mail; never raises for what the peer does.

        `message` has CRLF line ends and no dot-stuffing; several pieces are joined. A failure of kind CUT, TIMEOUT or
        DEADLINE at the stage DATA_CLOSE means that the server may have accepted it: do not go straight to the next
        host (RFC 1047). Raises RuntimeError while another transaction is going on.
        """
        if self._busy:
            raise RuntimeError("this connection carries another mail right now")
        whole = WireMessage.of(message)
        conversation = Conversation(self._wire, self._abilities, self._timeouts, envelope, whole, deadline)
        reused, self.deliveries, self._busy = self.deliveries > 0, self.deliveries + 1, True
        try:
            rested = reused and time.monotonic() - self._last_at > RESTED_SECONDS
            return await conversation.run(self._left_open, reused, rested)
        finally:
            self._busy = False
            self._last_at = time.monotonic()
            self._left_open = conversation.leaves_open
            self.refuses_chunks |= conversation.refuses_chunks

    async def close(self) -> None:
        """Say QUIT, wait shortly for the reply, and close; never raises."""
        quitting, self._closing = self.usable, True
        if quitting:
            await self._wire.exchange(b"QUIT\r\n", (self._timeouts.quit,))
        self._wire.fail(FailureKind.CUT, "closed by us")
        await self._wire.close()

    def abort(self, reason: str = "closed by us") -> None:
        """Close at once without a word; a transaction that is going on ends as cut, with this reason."""
        self._closing = True
        self._wire.abort(reason)
