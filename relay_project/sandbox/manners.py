"""How the sink treats mail: shares of what it defers, bounces, drops and cuts, and how slowly it answers.

Pure: no sockets. A table of manners is JSON, by listening address, by recipient domain, and `*` for the rest:

    {"*": {"defer": 0.05}, "127.0.9.1": {"tarpit_seconds": 20}, "r7.test": {"bounce": 0.5}}
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from zlib import crc32

ANYWHERE = "*"
DEFERRED = b"451 4.2.1 Try again later\r\n"
BOUNCED = b"550 5.1.1 No such mailbox here\r\n"


class BadManners(ValueError):
    """The table cannot be meant; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Manner:
    """Shares from 0 to 1; whatever is left is taken. A domain's manner says what its address's does not."""

    defer: float = 0.0  # of tries, at RCPT
    bounce: float = 0.0  # of mailboxes, at RCPT: the same ones every time
    drop: float = 0.0  # of tries: the connection is closed at RCPT
    cut: float = 0.0  # of messages: taken, and the connection closed in place of the 250 (RFC 1047)
    tarpit: float = 1.0  # of connections that are answered slowly
    tarpit_seconds: float = 0.0  # before each group of replies

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        shares = (self.defer, self.bounce, self.drop, self.cut, self.tarpit)
        if not all(0 <= share <= 1 for share in shares) or self.tarpit_seconds < 0:
            raise BadManners(f"Shares lie between 0 and 1, seconds are not negative: {self}")

    @property
    def asks_at_rcpt(self) -> bool:
        """Whether a recipient's fate is decided one by one."""
        return bool(self.defer or self.bounce or self.drop)


PLAIN = Manner()


class Manners:
    """The table; looked up once for a connection's address, and for recipients only where domains have rules."""

    def __init__(self, table: Mapping[str, Manner] | None = None, seed: int = 1) -> None:
        self._table = dict(table or {})
        self._random = random.Random(seed)  # noqa: S311 - the same misfortunes in every run
        self._domains = {name.encode(): manner for name, manner in self._table.items() if not _is_address(name)}
        self._domains.pop(ANYWHERE.encode(), None)

    @classmethod
    def of(cls, text: str, seed: int = 1) -> Manners:
        """Read the JSON form; raises BadManners."""
        try:
            table = {name: Manner(**record) for name, record in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise BadManners(f'Manners must be JSON such as {{"*": {{"defer": 0.1}}}}: {error}') from None
        return cls(table, seed)

    def at(self, address: str) -> Manner:
        """The manner of a listening address."""
        return self._table.get(address) or self._table.get(ANYWHERE) or PLAIN

    @property
    def knows_domains(self) -> bool:
        """Whether recipients' domains matter at all."""
        return bool(self._domains)

    def of_recipient(self, line: bytes, otherwise: Manner) -> Manner:
        """The manner of the domain in a RCPT line, else the address's."""
        domain = line.rpartition(b"@")[2].partition(b">")[0].strip().lower()
        return self._domains.get(domain, otherwise)

    def happens(self, share: float) -> bool:
        """Roll the dice."""
        return share > 0 and self._random.random() < share

    def refusal(self, line: bytes, manner: Manner) -> bytes | None:
        """The reply that refuses this RCPT line, b"" for a dropped connection; None takes the recipient."""
        if self.happens(manner.drop):
            return b""
        if manner.bounce and is_bounced(line, manner.bounce):
            return BOUNCED
        return DEFERRED if self.happens(manner.defer) else None


def is_bounced(line: bytes, share: float) -> bool:
    """Whether a mailbox belongs to the share that does not exist: by its name, so that every try says the same."""
    return crc32(line.partition(b"<")[2].partition(b">")[0].lower()) % 10_000 < share * 10_000


def as_json(table: Mapping[str, Manner]) -> str:
    """The table for a command line; what has its default is left out."""
    return json.dumps(
        {
            name: {
                part.name: getattr(manner, part.name)
                for part in fields(manner)
                if getattr(manner, part.name) != part.default
            }
            for name, manner in table.items()
        }
    )


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()
