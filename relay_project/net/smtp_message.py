"""A message as an SMTP server gets it: lines that end with CRLF, and dots stuffed where DATA carries it.

Made once, in the thread that composes: at 100 KB the two looks at it cost more than all else that the event loop does
for a mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay_project.mail.lines import with_crlf


@dataclass(frozen=True, slots=True)
class WireMessage:
    """The octets that BDAT carries as they are (RFC 3030), and whether DATA must stuff dots into them."""

    octets: bytes
    has_dots: bool  # a line begins with one

    @classmethod
    def of(cls, message: bytes | Sequence[bytes] | WireMessage) -> WireMessage:
        """Join the pieces and end each line with CRLF, the last one too, bare CRs and LFs as well."""
        if isinstance(message, WireMessage):
            return message
        octets = with_crlf(message if isinstance(message, bytes) else b"".join(message))
        if octets and not octets.endswith(b"\r\n"):
            octets += b"\r\n"
        return cls(octets, octets.startswith(b".") or b"\r\n." in octets)

    @property
    def size(self) -> int:
        """In octets, before any dot is stuffed (RFC 1870 §5)."""
        return len(self.octets)

    def dot_stuffed(self) -> bytes:
        """What goes over the wire after DATA, up to the final dot (RFC 5321 §4.5.2)."""
        if not self.has_dots:
            return self.octets + b".\r\n"
        head = b"." if self.octets.startswith(b".") else b""
        return b"".join((head, self.octets.replace(b"\r\n.", b"\r\n.."), b".\r\n"))
