"""TLS over octets that somebody else carries.

asyncio's own start_tls takes the transport away and knows nothing of what came before: octets that arrived with a PROXY
header in front of the handshake would be lost, and those behind STARTTLS would have to be kept from it. Here both are
plain: what is fed is what the handshake sees.
"""

from __future__ import annotations

import ssl

READ_OCTETS = 65_536


class Tls:
    """The server's side of one TLS connection. Every method may raise ssl.SSLError, after which nothing more works."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_ready = False  # the handshake is done
        self.has_ended = False  # the peer will say no more

    @property
    def version(self) -> str:
        """`TLSv1.3`"""
        return self._object.version() or ""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher suite."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take in what came; returns the clear text in it. What must go out is in `outgoing()` afterwards."""
        self._incoming.write(data)
        if not self.is_ready and not self._shake_hands():
            return b""
        clear = []
        try:
            while piece := self._object.read(READ_OCTETS):
                clear.append(piece)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        return b"".join(clear)

    def _shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.is_ready = True
        return True

    def seal(self, clear: bytes) -> bytes:
        """Encrypt; what is returned goes out."""
        self._object.write(clear)
        return self._outgoing.read()

    def outgoing(self) -> bytes:
        """What the protocol itself has to say: parts of handshakes, alerts."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def farewell(self) -> bytes:
        """The closing alert."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer's, for which nobody waits
        return self.outgoing()
