"""BIMI: the logo that mailbox providers show beside a domain's mail (draft-brand-indicators-for-message-identification).

find_record(texts) -> "v=BIMI1; …", or None where the domain publishes none
parse_record(text) -> Record("https://example.com/logo.svg", "")
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LABEL = "default._bimi"  # before the domain: the selector of mail that names none
MAX_URL = 2048  # characters

_RECORD = re.compile(r"v\s*=\s*BIMI1\s*(?:;|\Z)")
_HTTPS = re.compile(r"https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?(?:[/?#][!-~]*)?\Z", re.IGNORECASE)
_TAG = re.compile(r"\s*([a-z]+)\s*=\s*(.*?)\s*\Z", re.IGNORECASE | re.DOTALL)


class InvalidRecord(ValueError):
    """What is published is no assertion; the message says why. Receivers show no logo."""


@dataclass(frozen=True, slots=True)
class Record:
    """One assertion; `location` is the logo's URL, `authority` that of its certificate; both empty: none is wanted."""

    location: str
    authority: str

    @property
    def declines(self) -> bool:
        """The domain says that no logo be shown."""
        return not (self.location or self.authority)


def find_record(texts: Sequence[str]) -> str | None:
    """The record among the TXT records at `default._bimi.<domain>`; raises InvalidRecord where there are several."""
    found = [text.strip() for text in texts if _RECORD.match(text.strip())]
    if len(found) > 1:
        raise InvalidRecord("several BIMI records are published; receivers then use none of them")
    return found[0] if found else None


def parse_record(text: str) -> Record:
    """Read a record; raises InvalidRecord. Unknown tags are passed over."""
    if not _RECORD.match(text.strip()):
        raise InvalidRecord("it does not begin with v=BIMI1")
    tags: dict[str, str] = {}
    for part in text.split(";"):
        if match := _TAG.match(part):
            tags.setdefault(match[1].lower(), match[2])
    if "l" not in tags:
        raise InvalidRecord("it has no l= with the logo's address")
    record = Record(tags["l"], tags.get("a", ""))
    for name, url in (("l", record.location), ("a", record.authority)):
        if url and not (len(url) <= MAX_URL and _HTTPS.match(url)):
            raise InvalidRecord(f"its {name}= is no https address")
    return record
