"""TLS contexts of our clients, each made once: building one reads hundreds of certificates.

Sessions are not resumed. It would save a third of a millisecond of each connection, so some microseconds of each of the
hundred mails that it carries; and where a server bungles a resumption, opportunistic mail would go out in clear text.
"""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=1)
def opportunistic_context() -> ssl.SSLContext:
    """Any certificate, any TLS version, any cipher: still better than clear text (RFC 7435, lesson C1)."""
    context = _accepting_any_certificate()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


@lru_cache(maxsize=1)
def encrypting_context() -> ssl.SSLContext:
    """Any certificate, but TLS 1.2 or later."""
    return _accepting_any_certificate()


@lru_cache(maxsize=4)
def verifying_context(file: str = "") -> ssl.SSLContext:
    """The system's certificates and those of `file` (PEM), and the host's name as an alternative name (RFC 6125).

    Raises OSError for a file that cannot be read.
    """
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False  # RFC 8461 §4.2 has no fall-back to the common name
    if file:
        context.load_verify_locations(cafile=file)
    return context


def _accepting_any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
