r"""Where a message ends, and what it then looks like (RFC 5321 §4.1.1.4, §4.5.2).

Only CRLF.CRLF ends a message. `\n.\n`, `\n.\r\n`, `\r.\r`, `\r\n.\n`, `\r\n.\r` and whatever else some server somewhere
takes for an end are text like any other (SMTP smuggling, CVE-2023-51764 and its kin). Lone CRs and LFs are made CRLF, as
Postfix does, for old programs' reports come so; a dot behind one is not the client's stuffing and stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import StrEnum

END = b"\r\n.\r\n"
CR = 13
PIECE = 65_536  # octets that are converted at a time: some milliseconds at the worst
MAX_TEXT_LINE = 65_536  # octets; RFC 5321 §4.5.3.1.6 says 1000, and newsletters' HTML comes back in reports as it was


class Refusal(StrEnum):
    """Why a message is not kept."""

    TOO_BIG = "too_big"
    NO_ROOM = "no_room"  # all messages that are coming in together are too much
    LONG_LINE = "long_line"


class Intake:
    """One message while it comes in. What is refused is passed over without being kept, up to its end."""

    def __init__(self, limit: int) -> None:
        self.refusal: Refusal | None = None
        self._limit = limit
        # Stuffing adds a dot to lines of three octets at the least (".\r\n").
        self._most = limit + limit // 3 + len(END)
        # The message may end at once, so that the CRLF behind DATA is part of its end.
        self._text = bytearray(b"\r\n")

    @property
    def kept(self) -> int:
        """Octets that are held in memory."""
        return len(self._text)

    def refuse(self, refusal: Refusal) -> None:
        """Keep nothing from now on but what may begin the end; the first reason stands."""
        self.refusal = self.refusal or refusal
        del self._text[:-4]

    def feed(self, data: bytes | bytearray) -> int | None:
        """Take in what came. None when the end is not among it, else how many octets of `data` belong to the message."""
        begin = len(self._text)
        self._text += data
        end = self._text.find(END, max(begin - 4, 0))
        if end >= 0:
            del self._text[end + 2 :]
        if self.refusal is not None or len(self._text) > self._most:
            self.refuse(Refusal.TOO_BIG)
        return end + len(END) - begin if end >= 0 else None

    async def message(self) -> bytes:
        """The message, when it has ended: CRLF lines, dots unstuffed. Empty where it is refused, which may be now.

        Ten megabytes of line feeds take most of a second, so others get their turn between the pieces.
        """
        pieces: list[bytes] = []
        octets = 0
        for piece in canonical_pieces(bytes(self._text)) if self.refusal is None else ():
            pieces.append(piece)
            octets += len(piece)
            if octets > self._limit:
                self.refuse(Refusal.TOO_BIG)
                return b""
            if len(pieces) > 1:
                await asyncio.sleep(0)
        text = b"".join(pieces)
        if has_long_line(text):
            self.refuse(Refusal.LONG_LINE)
        return b"" if self.refusal is not None else text


def canonical_pieces(text: bytes) -> Iterator[bytes]:
    """Of the octets from the CRLF in front to the one before the last dot: the message, in one piece where it needs no
    change of line ends, else in pieces of PIECE octets."""
    text = text.replace(b"\r\n.", b"\r\n")[2:]
    ends = text.count(b"\r\n")
    if text.count(b"\n") == ends and text.count(b"\r") == ends:
        yield text
        return
    at = 0
    while at < len(text):
        end = min(at + PIECE, len(text))
        while end < len(text) and text[end - 1] == CR and end - at < 2 * PIECE:
            end += 1  # what belongs to a CR stays with it
        yield _with_crlf(text[at:end])
        at = end


def _with_crlf(text: bytes) -> bytes:
    text = text.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")  # a text converted twice has one end, CRCRLF
    return text.replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def has_long_line(text: bytes) -> bool:
    """Whether a line is longer than MAX_TEXT_LINE; looked for in steps of that, so that it costs nothing."""
    at = 0
    while len(text) - at > MAX_TEXT_LINE:
        end = text.rfind(b"\n", at, at + MAX_TEXT_LINE)
        if end < 0:
            return True
        at = end + 1
    return False
