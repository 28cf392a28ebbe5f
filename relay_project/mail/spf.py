"""SPF (RFC 7208): reading a domain's record, and whether it lets an address send.

find_record(texts) -> "v=spf1 …", or None where the domain publishes none
check_host(ip, domain, lookup) -> Finding(Result.PASS, "ip4:192.0.2.0/24")

The look-ups are the caller's: `lookup(name, type)` gives the texts of the records of one type ("TXT", "A", "AAAA";
"MX" as host names), none for an empty answer; it raises LookupError where the name does not exist and ConnectionError
where nobody answered.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, str], Sequence[str]]

MAX_LOOKUPS = 10  # terms that ask DNS in one evaluation, RFC 7208 §4.6.4
MAX_VOID_LOOKUPS = 2  # that may find nothing, the same
MAX_MX_HOSTS = 10  # of one "mx" mechanism, the same
MAX_RECORD = 4096  # characters; RFC 7208 §3.4 wants 512 octets at most
MAX_NAME = 253  # octets of an expanded name, RFC 7208 §7.3

_RECORD = re.compile(r"v=spf1(?: .*)?\Z", re.IGNORECASE | re.DOTALL)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)\Z", re.IGNORECASE)
_MECHANISM = re.compile(
    r"([+?~-]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?::([^/\s]\S*?))?((?:/\d{1,3})?(?://\d{1,3})?)\Z", re.I
)
_IP = re.compile(r"([+?~-]?)(ip4|ip6):([0-9a-f.:]+)(/\d{1,3})?\Z", re.IGNORECASE)
_MACRO = re.compile(r"%(?:\{([slodiphcrtv])(\d{0,3})(r?)([.\-+,/_=]*)\}|(%)|(_)|(-))", re.IGNORECASE)
# A name that DNS could have, RFC 7208 §4.3; unlike a host's it may have underscores.
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[!-\-/-~]{1,63}\.)+[!-\-/-~]{1,63}\Z")
_ASKING = frozenset({"include", "a", "mx", "ptr", "exists"})


class InvalidRecord(ValueError):
    """A permanent error of the published record (RFC 7208 §2.6.7); the message says what is wrong."""


class Result(StrEnum):
    """What an evaluation says (RFC 7208 §2.6)."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 — the RFC's word
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_BY_QUALIFIER = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive; `value` is a domain or a network, empty for the domain itself; prefixes None for a whole address."""

    text: str
    result: Result
    name: str
    value: str = ""
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read."""

    mechanisms: tuple[Mechanism, ...]
    redirect: str = ""

    @property
    def includes(self) -> tuple[str, ...]:
        """The domains that it includes or redirects to, as they are written."""
        named = [mechanism.value for mechanism in self.mechanisms if mechanism.name == "include"]
        return tuple(name.rstrip(".").lower() for name in [*named, self.redirect] if name)

    @property
    def is_open(self) -> bool:
        """It lets everybody send: no protection, and receivers know it."""
        return any(mechanism.name == "all" and mechanism.result is Result.PASS for mechanism in self.mechanisms)

    @property
    def lookups(self) -> int:
        """How many of its own terms ask DNS; those of what it includes come on top."""
        return sum(mechanism.name in _ASKING for mechanism in self.mechanisms) + bool(self.redirect)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an evaluation came to: the term that decided, or what went wrong; how many terms asked DNS."""

    result: Result
    term: str = ""
    lookups: int = 0


def find_record(texts: Sequence[str]) -> str | None:
    """The SPF record among a domain's TXT records (RFC 7208 §4.5); raises InvalidRecord where there are several."""
    found = [text.strip() for text in texts if _RECORD.match(text.strip())]
    if len(found) > 1:
        raise InvalidRecord("several SPF records are published; receivers then use none of them")
    return found[0] if found else None


def parse_record(text: str) -> Record:
    """Read a record; raises InvalidRecord at the first term that is none (RFC 7208 §4.6)."""
    if not _RECORD.match(text) or len(text) > MAX_RECORD:
        raise InvalidRecord("this is no SPF record")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in text.split()[1:]:
        if modifier := _MODIFIER.match(term):
            name = modifier[1].lower()
            if name in ("redirect", "exp") and (name in modifiers or not modifier[2]):
                raise InvalidRecord(f"{name}= is empty or stands there twice")
            modifiers[name] = modifier[2]
        else:
            mechanisms.append(_parse_mechanism(term))
    return Record(tuple(mechanisms), modifiers.get("redirect", ""))


def check_host(ip: str, domain: str, lookup: Lookup, sender: str = "") -> Finding:
    """Whether `domain` lets `ip` send (RFC 7208 §4); never raises for what DNS says.

    `ptr` never matches: the RFC tells nobody to publish it, and following it costs more than it tells.
    """
    check = _Check(ipaddress.ip_address(ip), sender or f"postmaster@{domain}", lookup)
    try:
        finding = check.evaluate(domain)
    except InvalidRecord as error:
        finding = Finding(Result.PERMERROR, str(error))
    except ConnectionError as error:
        finding = Finding(Result.TEMPERROR, str(error))
    return Finding(finding.result, finding.term, check.lookups)


def _parse_mechanism(term: str) -> Mechanism:
    if match := _IP.match(term):
        return _network(term, match[1], match[2].lower(), match[3] + (match[4] or ""))
    match = _MECHANISM.match(term)
    if match is None or match[2].lower() in ("ip4", "ip6"):
        raise InvalidRecord(f"{term[:80]} is no term of SPF")
    name, value = match[2].lower(), match[3] or ""
    if (name in ("include", "exists")) != bool(value) and name not in ("a", "mx", "ptr"):
        raise InvalidRecord(f"{term[:80]} names no domain" if not value else f"{term[:80]} is no term of SPF")
    if match[4] and name not in ("a", "mx"):
        raise InvalidRecord(f"{term[:80]} may have no prefix length")
    v4, _, v6 = match[4].partition("//")
    prefix4, prefix6 = int(v4.removeprefix("/") or 32), int(v6 or 128)
    if prefix4 > 32 or prefix6 > 128:
        raise InvalidRecord(f"{term[:80]} has a prefix length that is too large")
    return Mechanism(term, _BY_QUALIFIER[match[1] or "+"], name, value, prefix4, prefix6)


def _network(term: str, qualifier: str, name: str, value: str) -> Mechanism:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise InvalidRecord(f"{term[:80]} names no network") from None
    if network.version != int(name[2]):
        raise InvalidRecord(f"{term[:80]} names a network of the other family")
    return Mechanism(term, _BY_QUALIFIER[qualifier or "+"], name, str(network))


@dataclass(slots=True)
class _Check:
    """One evaluation, with what it may still ask."""

    ip: Address
    sender: str
    lookup: Lookup
    lookups: int = 0
    voids: int = 0

    def evaluate(self, domain: str) -> Finding:
        """The record of one domain; raises InvalidRecord and ConnectionError."""
        name = domain.rstrip(".").lower()
        if not _NAME.match(name):
            return Finding(Result.NONE, f"{domain[:80]} is no domain")
        text = find_record(self._ask(name, "TXT", counts=False))
        if text is None:
            return Finding(Result.NONE, f"{name} publishes no SPF record")
        record = parse_record(text)
        for mechanism in record.mechanisms:
            if mechanism.name in _ASKING:
                self._count()
            if self._matches(mechanism, name):
                return Finding(mechanism.result, mechanism.text)
        if record.redirect and not any(mechanism.name == "all" for mechanism in record.mechanisms):
            return self._follow(record.redirect, name)
        return Finding(Result.NEUTRAL, "no term matches")

    def _follow(self, redirect: str, domain: str) -> Finding:
        self._count()
        finding = self.evaluate(self._expand(redirect, domain))
        if finding.result is Result.NONE:
            raise InvalidRecord(f"redirect={redirect[:80]} leads to no SPF record")
        return finding

    def _count(self) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise InvalidRecord(f"more than {MAX_LOOKUPS} terms ask DNS")

    def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            network = ipaddress.ip_network(mechanism.value)
            return self.ip.version == network.version and self.ip in network
        target = self._expand(mechanism.value, domain) if mechanism.value else domain
        if name == "include":
            return self._included(target)
        if name == "exists":
            return bool(self._ask(target, "A"))
        if name == "a":
            return self._is_among([target], mechanism)
        if name == "mx":
            hosts = self._ask(target, "MX")
            if len(hosts) > MAX_MX_HOSTS:
                raise InvalidRecord(f"{mechanism.text[:80]} has more than {MAX_MX_HOSTS} hosts")
            return self._is_among(hosts, mechanism)
        return False

    def _included(self, domain: str) -> bool:
        finding = self.evaluate(domain)
        if finding.result is Result.NONE:
            raise InvalidRecord(f"include:{domain[:80]} publishes no SPF record")
        return finding.result is Result.PASS

    def _is_among(self, hosts: Sequence[str], mechanism: Mechanism) -> bool:
        kind, prefix = ("A", mechanism.prefix4) if self.ip.version == 4 else ("AAAA", mechanism.prefix6)
        network = ipaddress.ip_network(f"{self.ip}/{prefix}", strict=False)
        return any(address in network for host in hosts for address in _addresses(self._ask(host, kind)))

    def _ask(self, name: str, kind: str, *, counts: bool = True) -> Sequence[str]:
        try:
            found = self.lookup(name, kind)
        except LookupError:
            found = []
        if counts and not found:
            self.voids += 1
            if self.voids > MAX_VOID_LOOKUPS:
                raise InvalidRecord(f"more than {MAX_VOID_LOOKUPS} look-ups find nothing")
        return found

    def _expand(self, text: str, domain: str) -> str:
        """A domain-spec with its macros expanded (RFC 7208 §7), cut from the left where it is too long."""
        if "%" not in text:
            return text
        expanded = _MACRO.sub(lambda match: self._macro(match, domain), text)
        while len(expanded) > MAX_NAME and "." in expanded:
            expanded = expanded.partition(".")[2]
        return expanded

    def _macro(self, match: re.Match[str], domain: str) -> str:
        if match[1] is None:
            return "%" if match[5] else " " if match[6] else "%20"
        local, _, sender_domain = self.sender.rpartition("@")
        values = {
            "s": self.sender,
            "l": local,
            "o": sender_domain,
            "d": domain,
            "i": _dotted(self.ip),
            "p": "unknown",
            "v": "in-addr" if self.ip.version == 4 else "ip6",
            "h": domain,
            "c": str(self.ip),
            "r": "unknown",
            "t": "0",
        }
        parts = re.split(f"[{re.escape(match[4])}]" if match[4] else r"\.", values[match[1].lower()])
        if match[3]:
            parts.reverse()
        return ".".join(parts[-int(match[2]) :] if match[2] and int(match[2]) else parts)


def _dotted(ip: Address) -> str:
    """The macro letter `i`: IPv6 nibble by nibble."""
    return str(ip) if ip.version == 4 else ".".join(ip.exploded.replace(":", ""))


def _addresses(texts: Sequence[str]) -> Iterator[Address]:
    for text in texts:
        try:
            yield ipaddress.ip_address(text)
        except ValueError:
            continue
