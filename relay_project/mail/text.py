"""Text from outside made harmless: replies, headers and answers pass through here before they are stored or shown."""

import re

DEFAULT_LIMIT = 2000  # characters; four reply lines of the greatest length (RFC 5321 §4.5.3.1.5: 512 octets)

# PostgreSQL refuses NUL in text and lone surrogates in UTF-8; the other C0 controls only harm terminals and pages.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def clean(raw: bytes | str, limit: int = DEFAULT_LIMIT) -> str:
    """Decode as UTF-8 with replacement, drop NUL and C0 controls except line feed and tab, and cut.

    `limit` counts characters of the result. Never raises; what comes back can be stored in PostgreSQL text and JSON.
    """
    if isinstance(raw, str) and raw.isascii() and raw.isprintable():  # nearly every reply, ten times as fast
        return raw[:limit]
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else _SURROGATES.sub("\ufffd", raw)
    return _CONTROLS.sub("", text)[:limit]
