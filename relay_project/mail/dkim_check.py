"""Whether the DKIM signatures of a mail hold (RFC 6376 §6), judged by dkimpy within bounds that hostile mail keeps to.

The look-up is the caller's: `txt(name)` gives the TXT records at a name; it raises LookupError for a name that does not
exist and ConnectionError (or another OSError) where nobody answered.
"""

from collections.abc import Callable
from typing import Any

import dkim
import dkim.canonicalization

from relay_project.mail.text import clean

MAX_SIGNATURES = 5  # of one mail that are checked
MAX_SIGNATURE = 8_192  # octets of one field; dkimpy splits it by expressions that go back and forth over white space
MAX_HEADER = 65_536  # octets; dkimpy puts folded lines together one by one
MAX_ERROR = 300  # characters

TxtLookup = Callable[[str], list[str]]


def check_signatures(data: bytes, txt: TxtLookup) -> list[dict[str, Any]]:
    """One entry per DKIM-Signature, in the order they stand: domain, selector, valid, error. Raises nothing."""
    if len(data.partition(b"\r\n\r\n")[0]) > MAX_HEADER:
        return []
    try:
        verifier = dkim.DKIM(data)
    except (dkim.DKIMException, ValueError, LookupError):  # a header that is none
        return []
    signatures = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"][:MAX_SIGNATURES]
    return [_checked(data, index, value, txt) for index, value in enumerate(signatures)]


def _checked(data: bytes, index: int, value: bytes, txt: TxtLookup) -> dict[str, Any]:
    tags = _tags(value[:MAX_SIGNATURE])
    result: dict[str, Any] = {"domain": tags.get("d", ""), "selector": tags.get("s", ""), "valid": False, "error": ""}
    if len(value) > MAX_SIGNATURE:
        return result | {"error": f"the signature has more than {MAX_SIGNATURE} octets"}
    try:
        result["valid"] = bool(dkim.DKIM(data).verify(idx=index, dnsfunc=lambda name, timeout=5: _first_txt(name, txt)))
    except Exception as error:  # noqa: BLE001 — dkimpy fails in many ways on hostile signatures and keys
        result["error"] = clean(f"{type(error).__name__}: {error}", MAX_ERROR)
    if not result["valid"] and not result["error"]:
        result["error"] = "the signature does not match"
    return result


def _tags(value: bytes) -> dict[str, str]:
    pairs = (tag.partition(b"=") for tag in value.split(b";"))
    return {clean(name.strip(), 20): clean(b"".join(text.split()), 253) for name, _, text in pairs}


def _first_txt(name: bytes | str, txt: TxtLookup) -> bytes | None:
    asked = name.decode() if isinstance(name, bytes) else name
    found = txt(asked.rstrip("."))
    return found[0].encode() if found else None


def _strip_trailing_whitespace(content: bytes) -> bytes:
    """RFC 6376 §3.4.4: no white space before the end of a line."""
    lines = content.split(b"\r\n")
    return b"\r\n".join([*(line.rstrip(b"\t ") for line in lines[:-1]), lines[-1]])


# dkimpy's own looks at every space of a run anew: a line of a million of them would take it hours.
dkim.canonicalization.strip_trailing_whitespace = _strip_trailing_whitespace
