r"""Where a message ends, and what it then looks like (RFC 5321 §4.1.1.4, §4.5.2).

Only CRLF.CRLF ends a message. `\n.\n`, `\n.\r\n`, `\r.\r`, `\r\n.\n`, `\r\n.\r` and whatever else some server somewhere
takes for an end are text like any other (SMTP smuggling, CVE-2023-51764 and its kin). Lone CRs and LFs are made CRLF, as
Postfix does, for old programs' reports come so; a dot behind one is not the client's stuffing and stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import StrEnum

from relay_project.mail.lines import has_longer_line

END = b"\r\n.\r\n"
CR = 13
CRS = 1024  # of a run of CRs that are kept together
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

        Ten megabytes are work for a tenth of a second, so others get their turn between the pieces.
        """
        pieces: list[bytes] = []
        octets = 0
        for piece in canonical_pieces(self._text) if self.refusal is None else ():
            pieces.append(piece)
            octets += len(piece)
            if octets > self._limit:
                self.refuse(Refusal.TOO_BIG)
                return b""
            if len(pieces) > 1:
                await asyncio.sleep(0)
        text = b"".join(pieces)
        if has_longer_line(text, MAX_TEXT_LINE):
            self.refuse(Refusal.LONG_LINE)
        return b"" if self.refusal is not None else text


def canonical_pieces(text: bytes | bytearray) -> Iterator[bytes]:
    """Of the octets from the CRLF in front to the one before the last dot: the message, in pieces of PIECE octets."""
    at = 2
    while at < len(text):
        end = min(at + PIECE, len(text))
        while end < len(text) and text[end - 1] == CR and end - at < PIECE + CRS:
            end += 1  # what belongs to a CR stays with it
        piece = bytes(text[at:end])
        if piece.startswith(b".") and text[at - 2 : at] == b"\r\n":
            piece = piece[1:]
        yield _with_crlf(piece.replace(b"\r\n.", b"\r\n"))
        at = end


def _with_crlf(text: bytes) -> bytes:
    ends = text.count(b"\r\n")
    if text.count(b"\n") == ends == text.count(b"\r"):
        return text
    text = text.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")  # a text converted twice has one end, CRCRLF
    return text.replace(b"\r", b"\n").replace(b"\n", b"\r\n")
