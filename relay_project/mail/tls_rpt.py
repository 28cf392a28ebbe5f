"""SMTP TLS reporting (RFC 8460): where a domain wants reports about TLS of mail to it.

find_record(texts) -> "v=TLSRPTv1; rua=…", or None where the domain publishes none
reports_to(text) -> ("mailto:tls@example.com",)
"""

import re
from collections.abc import Sequence

LABEL = "_smtp._tls"  # before the domain, RFC 8460 §3

_RECORD = re.compile(r"v\s*=\s*TLSRPTv1\s*(?:;|\Z)")
_RUA = re.compile(r";\s*rua\s*=\s*([^;]*)")


class InvalidRecord(ValueError):
    """What is published is no such record; the message says why. Senders report nothing."""


def find_record(texts: Sequence[str]) -> str | None:
    """The record among the TXT records at `_smtp._tls.<domain>`; raises InvalidRecord where there are several."""
    found = [text.strip() for text in texts if _RECORD.match(text.strip())]
    if len(found) > 1:
        raise InvalidRecord("several records are published; senders then use none of them")
    return found[0] if found else None


def reports_to(text: str) -> tuple[str, ...]:
    """The addresses of reports, as URIs (RFC 8460 §3); raises InvalidRecord where there is none."""
    match = _RUA.search(text)
    uris = tuple(uri.strip() for uri in match[1].split(",") if uri.strip()) if match else ()
    if not any(uri.lower().startswith(("mailto:", "https:")) for uri in uris):
        raise InvalidRecord("the record names no address in rua=")
    return uris
