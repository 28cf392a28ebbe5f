"""DMARC (RFC 7489): a domain's policy, where it stands, and whether an identifier is aligned with the From domain.

find_policy(domain, lookup) -> Published(domain, Policy(p="reject", …)), or None

The organisational domain is found by walking up the tree (the way of RFC 7489's successor) rather than by a list of
public suffixes: such a list is out of date wherever it is installed. The look-up is the caller's: `lookup(name)` gives
the TXT records at a name, none for an empty answer; it raises LookupError where the name does not exist and
ConnectionError where nobody answered.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

LABEL = "_dmarc"  # before the domain, RFC 7489 §6.1
MAX_WALK = 8  # names asked for one domain; deeper ones are skipped after the first

_RECORD = re.compile(r"v\s*=\s*DMARC1\s*(?:;|\Z)")  # case matters, RFC 7489 §6.3
_TAG = re.compile(r"\s*([a-z]+)\s*=\s*(.*?)\s*\Z", re.IGNORECASE | re.DOTALL)

Lookup = Callable[[str], Sequence[str]]


class InvalidPolicy(ValueError):
    """What is published is no policy; the message says why. Receivers act as if there were none."""


class Action(StrEnum):
    """What a domain asks receivers to do with mail that is not aligned (RFC 7489 §6.3)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Policy:
    """One record. `strict_*`: identifiers must name the very domain; else the same organisation is enough."""

    action: Action
    subdomains: Action
    strict_dkim: bool = False
    strict_spf: bool = False
    percent: int = 100
    reports_to: tuple[str, ...] = ()

    def action_for(self, *, is_subdomain: bool) -> Action:
        """What is asked for mail of the domain itself, or of one below it."""
        return self.subdomains if is_subdomain else self.action


@dataclass(frozen=True, slots=True)
class Published:
    """A policy and the domain it was found at."""

    domain: str
    policy: Policy


def find_record(texts: Sequence[str]) -> str | None:
    """The record among the TXT records at `_dmarc.<domain>`; several count as none (RFC 7489 §6.6.3)."""
    found = [text.strip() for text in texts if _RECORD.match(text.strip())]
    return found[0] if len(found) == 1 else None


def parse_policy(text: str) -> Policy:
    """Read a record (RFC 7489 §6.3); raises InvalidPolicy. Unknown tags are passed over."""
    if not _RECORD.match(text.strip()):
        raise InvalidPolicy("it does not begin with v=DMARC1")
    tags: dict[str, str] = {}
    for part in text.split(";"):
        if match := _TAG.match(part):
            tags.setdefault(match[1].lower(), match[2])
    addresses = tuple(uri.strip() for uri in tags.get("rua", "").split(",") if uri.strip())
    action = _action(tags.get("p"), "p", Action.NONE if addresses else None)
    return Policy(
        action,
        _action(tags.get("sp"), "sp", action),
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
        _percent(tags.get("pct", "100")),
        addresses,
    )


def find_policy(domain: str, lookup: Lookup) -> Published | None:
    """The policy that holds for a From domain: its own, else the nearest above it.

    Raises InvalidPolicy for a record that is none, and ConnectionError of the look-up.
    """
    for name in names_above(domain):
        text = find_record(_texts(name, lookup))
        if text is not None:
            return Published(name, parse_policy(text))
    return None


def organisational_domain(domain: str, lookup: Lookup) -> str:
    """The highest domain on the way up that publishes a record; the domain itself where none does."""
    found = domain
    for name in names_above(domain):
        text = find_record(_texts(name, lookup))
        if text is None:
            continue
        if re.search(r";\s*psd\s*=\s*y\s*(?:;|\Z)", text, re.IGNORECASE):
            break
        found = name
    return found


def is_aligned(identifier: str, from_domain: str, *, strict: bool, organisation: str | None = None) -> bool:
    """Whether a domain that was authenticated speaks for the From domain (RFC 7489 §3.1).

    `organisation`: the From domain's organisational domain, where it is known.
    """
    identifier, from_domain = identifier.rstrip(".").lower(), from_domain.rstrip(".").lower()
    if identifier == from_domain:
        return True
    if strict:
        return False
    top = (organisation or from_domain).rstrip(".").lower()
    pairs = ((identifier, from_domain), (from_domain, identifier))
    below = any(one.endswith(f".{other}") and "." in other for one, other in pairs)
    return below or (_is_within(identifier, top) and _is_within(from_domain, top))


def _is_within(domain: str, top: str) -> bool:
    return "." in top and (domain == top or domain.endswith(f".{top}"))


def names_above(domain: str) -> list[str]:
    """The domain and those above it, down to two labels; of a deep one the middle is left out."""
    labels = domain.rstrip(".").lower().split(".")
    names = [".".join(labels[start:]) for start in range(len(labels) - 1)]
    return names if len(names) <= MAX_WALK else [names[0], *names[-(MAX_WALK - 1) :]]


def _texts(name: str, lookup: Lookup) -> Sequence[str]:
    try:
        return lookup(f"{LABEL}.{name}")
    except LookupError:
        return []


def _action(value: str | None, tag: str, default: Action | None) -> Action:
    """RFC 7489 §6.6.3: without a usable policy, one that at least asks for reports counts as none."""
    try:
        return Action((value or "").lower())
    except ValueError:
        if default is None:
            raise InvalidPolicy(f"its {tag} is none of none, quarantine and reject") from None
        return default


def _percent(value: str) -> int:
    return min(int(value), 100) if value.isascii() and value.isdigit() and len(value) <= 4 else 100
