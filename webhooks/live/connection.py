"""One stream: what it wants, what waits to be written to it, and why it ends."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from webhooks.feed import FeedEvent
from webhooks.live.asked import Asked, network_of
from webhooks.live.frames import SLOW, Ending, Item, Transport, send_id_of
from webhooks.live.rights import READING, may_see
from webhooks.live.tickets import Ticket

MAX_QUEUED = 1000  # events that wait for one client; they are shared with all other streams of the project
MAX_STALL_SECONDS = 20.0  # for a client to take anything at all
MAX_UNSENT = 256 * 1024  # octets in the transport: a write is some 64 KB, more is answers to a flood of pings
TOO_SLOW = Ending(SLOW, "Too slow: come again, from the last event that arrived.")

NOTHING_LEFT = Ending(4403, "You may not read any of these events any more.")


class Wire(Protocol):
    """What the stream needs of the server's transport."""

    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


@dataclass(eq=False, slots=True)
class Connection:
    """The state of a stream; all of it belongs to the loop's thread."""

    asked: Asked
    ticket: Ticket
    scopes: frozenset[str]
    wire: Wire | None = None
    after: int = 0  # the position that everything wanted was queued up to
    is_joined: bool = False  # it gets what the process reads; else it reads for itself
    queue: deque[Item] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ending: Ending | None = None
    opened_at: float = field(default_factory=monotonic)
    written_at: float = field(default_factory=monotonic)
    writing_since: float | None = None
    heartbeat_due: bool = False
    written: int = 0  # events
    writer: asyncio.Task[None] | None = None
    network: str = ""

    def __post_init__(self) -> None:
        self.network = network_of(self.asked.address)

    @property
    def project_id(self) -> int:
        """Whose events."""
        return self.ticket.project_id

    @property
    def transport(self) -> Transport:
        """Its form."""
        return self.asked.transport

    def wants(self, event: FeedEvent) -> bool:
        """Whether it asked for the event, and may see it."""
        return self._wants(event.kind, send_id_of(event))

    def take(self, items: list[Item], end: int) -> None:
        """Queue what it wants of the feed up to `end`."""
        for item in items:
            if item.position > self.after and self._wants(item.kind, item.send_id):
                self.queue.append(item)
        self.after = max(self.after, end)
        if len(self.queue) > MAX_QUEUED:
            self.cut()
        elif self.queue:
            self.wake.set()

    def fall_behind(self) -> None:
        """It reads for itself again, from where it is."""
        self.is_joined = False
        self.wake.set()

    def end(self, ending: Ending) -> None:
        """It ends when what is queued has been written; the first reason stays."""
        self.ending = self.ending or ending
        self.wake.set()

    def is_stalled(self, now: float) -> bool:
        """Whether its client has taken nothing for too long, or what it provoked piles up."""
        stuck = self.writing_since is not None and now - self.writing_since > MAX_STALL_SECONDS
        return stuck or (self.wire is not None and self.wire.get_write_buffer_size() > MAX_UNSENT)

    def cut(self) -> None:
        """Its client is too slow: what waits is dropped, and who writes is woken from it."""
        self.queue.clear()
        self.end(TOO_SLOW)
        if self.writer is not None:
            self.writer.cancel()

    def abort(self) -> None:
        """Let go of the connection at once, with what was not taken."""
        if self.wire is not None:
            self.wire.abort()

    def allow(self, scopes: frozenset[str]) -> None:
        """What it may see from now on."""
        self.scopes = scopes
        wanted = self.asked.kinds
        if not scopes & READING or (wanted is not None and not any(may_see(kind, scopes) for kind in wanted)):
            self.end(NOTHING_LEFT)

    def log_context(self) -> dict[str, Any]:
        """For the line that tells of its end."""
        return {
            **self.ticket.log_context,
            "transport": self.transport.value,
            "seconds": round(monotonic() - self.opened_at, 1),
            "events": self.written,
        }

    def _wants(self, kind: str, send_id: int | None) -> bool:
        if self.asked.send_id is not None and send_id != self.asked.send_id:
            return False
        return (self.asked.kinds is None or kind in self.asked.kinds) and may_see(kind, self.scopes)
