"""MTA-STS (RFC 8461): the record that says a policy exists, and the policy itself.

identify(texts) -> "20260131T000000", or None where the domain has no policy
parse_policy(body).allows("mx1.example.com")
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from relay_project.mail.text import clean

MAX_POLICY = 65_536  # octets; RFC 8461 §3.3 suggests a limit of 64 kilobytes
MAX_PATTERNS = 100  # of MX hosts kept; the largest providers publish under twenty
MAX_AGE_SECONDS = 31_557_600  # RFC 8461 §3.2: about a year
POLICY_HOST = "mta-sts"  # label before the domain, RFC 8461 §3.3
POLICY_PATH = "/.well-known/mta-sts.txt"
RECORD_LABEL = "_mta-sts"  # RFC 8461 §3.1

_VERSION = "STSv1"
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")  # RFC 8461 §3.1
_FIELD = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})\s*:\s*(.*?)\s*\Z")
_PATTERN = re.compile(
    r"(\*\.)?(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
)


class InvalidPolicy(ValueError):
    """What was served as a policy is none; the message says why."""


class Mode(StrEnum):
    """What a policy asks for (RFC 8461 §3.2)."""

    ENFORCE = "enforce"  # no mail but to hosts it names, with a valid certificate
    TESTING = "testing"  # as without, but failures are of interest
    NONE = "none"  # the policy is being withdrawn


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; `mx` are lower-case host names, or `*.` and a domain."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int  # seconds it may be kept

    @property
    def lifetime(self) -> timedelta:
        """How long it may be kept."""
        return timedelta(seconds=self.max_age)

    def allows(self, host: str) -> bool:
        """Whether a pattern names the MX host; `*.` stands for exactly one label (RFC 8461 §4.1)."""
        name = host.rstrip(".").lower()
        parent = name.partition(".")[2]
        return any(pattern == name or (pattern[:2] == "*." and pattern[2:] == parent != "") for pattern in self.mx)


def identify(texts: Sequence[str]) -> str | None:
    """The policy's id from the TXT records at `_mta-sts.<domain>`; None for no policy (RFC 8461 §3.1).

    Several records that claim the version count as none, and so does one that is malformed.
    """
    records = [text for text in texts if re.match(rf"v={_VERSION}\s*(;|\Z)", text)]
    if len(records) != 1:
        return None
    pairs = [field.strip().partition("=") for field in records[0].split(";")[1:] if field.strip()]
    ids = [value.strip() for key, _, value in pairs if key.strip() == "id"]
    return ids[0] if ids and _ID.match(ids[0]) else None


def parse_policy(body: bytes) -> Policy:
    """Read a policy (RFC 8461 §3.2); raises InvalidPolicy and nothing else.

    Unknown fields and repeated ones are passed over, as the RFC asks; of repeated ones the first counts.
    """
    fields, patterns = _read_fields(body)
    if fields.get("version") != _VERSION:
        raise InvalidPolicy(f"its version is not {_VERSION}")
    try:
        mode = Mode(fields.get("mode", ""))
    except ValueError:
        raise InvalidPolicy("its mode is none of enforce, testing and none") from None
    max_age = fields.get("max_age", "")
    if not (max_age.isascii() and max_age.isdigit() and len(max_age) <= 10):
        raise InvalidPolicy("its max_age is no number of seconds")
    if not patterns and mode is not Mode.NONE:
        raise InvalidPolicy("it names no MX host")
    return Policy(mode, tuple(patterns), min(int(max_age), MAX_AGE_SECONDS))


def _read_fields(body: bytes) -> tuple[dict[str, str], list[str]]:
    """The fields with their first values, and the patterns of `mx`."""
    if len(body) > MAX_POLICY:
        raise InvalidPolicy(f"it is longer than {MAX_POLICY} octets")
    try:
        lines = body.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise InvalidPolicy("it is not text") from None
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in filter(str.strip, lines):
        match = _FIELD.match(line)
        if match is None:
            raise InvalidPolicy(f"a line is no field: {clean(line, 80)}")
        if match[1] == "mx":
            patterns.append(_pattern(match[2]))
        else:
            fields.setdefault(match[1], match[2])
    if len(patterns) > MAX_PATTERNS:
        raise InvalidPolicy(f"it names more than {MAX_PATTERNS} MX hosts")
    return fields, patterns


def _pattern(value: str) -> str:
    pattern = value.rstrip(".").lower()
    if not _PATTERN.match(pattern):
        raise InvalidPolicy(f"an mx is no host name: {clean(value, 80)}")
    return pattern
