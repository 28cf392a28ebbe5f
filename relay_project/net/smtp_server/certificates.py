"""The server's TLS context: its certificate is read again when its files change; a bad one changes nothing."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from relay_project.net.self_signed import load_self_signed

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """Gives the context that new handshakes use. Call `refresh()` every few seconds."""

    def __init__(self, hostname: str, certificate: str = "", key: str = "") -> None:
        """Read the files (PEM; `key` empty: it stands in `certificate`), or make a certificate where there are none."""
        self.trouble = ""  # why what lies there now is not used
        self.is_self_signed = True
        self.expires_at: datetime | None = None
        self._files = [Path(name) for name in (certificate, key) if name]
        self._stamp: Stamp = ()
        self.context = _context()
        load_self_signed(self.context, hostname)
        self.refresh()

    def refresh(self) -> None:
        """Look whether the files have changed, and use what they hold if it can be used."""
        if not self._files:
            return
        try:
            stamp = tuple(_stamp(file) for file in self._files)
        except FileNotFoundError as error:
            # Until there is one, the self-signed one serves; one that has gone is missed at the next start.
            self._fail("" if self.is_self_signed else f"{error.filename} is gone", ())
            return
        except OSError as error:
            self._fail(f"{error.filename} cannot be read ({error.strerror})", ())
            return
        if stamp == self._stamp:
            return
        try:
            self._load(stamp)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._fail(f"{self._files[0]} cannot be used: {_why(error)}", stamp)

    def _load(self, stamp: Stamp) -> None:
        context = _context()
        context.load_cert_chain(self._files[0], self._files[-1], password="")
        self.expires_at = x509.load_pem_x509_certificate(self._files[0].read_bytes()).not_valid_after_utc
        self.context, self._stamp, self.trouble, self.is_self_signed = context, stamp, "", False
        log.info("smtp.certificate_read", file=str(self._files[0]), expires_at=self.expires_at.isoformat())

    def _fail(self, trouble: str, stamp: Stamp) -> None:
        """Say it once; the files are tried again when they change."""
        self._stamp = stamp
        if trouble and trouble != self.trouble:
            log.error("smtp.certificate_not_read", trouble=trouble, self_signed=self.is_self_signed)
        self.trouble = trouble

    def is_expired(self, now: datetime | None = None) -> bool:
        """Whether the certificate's time is over."""
        return self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC))


def _context() -> ssl.SSLContext:
    """TLS 1.2 or later (RFC 8996)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _stamp(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _why(error: Exception) -> str:
    return (getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)).replace("_", " ").lower()
