"""MX records: the order in which hosts are tried, null MX, and the site that shares limits."""

import hashlib
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from relay_project.mail.rates import Limits

MAX_SITE = 200  # characters of a site's name; a longer MX set is named by its digest, so that keys stay short


@dataclass(frozen=True, slots=True)
class MxRecord:
    """One MX record of RFC 1035 §3.3.9."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A receiver whose many MX hosts count as one site; `source` says where the patterns are published.

    `limits` is what one source IP may do there by default, `limits_source` who says so.
    """

    name: str
    mx: tuple[str, ...]
    source: str
    limits: Limits
    limits_source: str


def is_null_mx(records: Sequence[MxRecord]) -> bool:
    """Whether the domain says that it takes no mail (RFC 7505 §3): every record names the root."""
    return bool(records) and not any(_host(record.host) for record in records)


def order_hosts(records: Sequence[MxRecord], rng: random.Random) -> list[str]:
    """Give the hosts to try, best preference first and equal ones shuffled (RFC 5321 §5.1), each host once.

    A root host beside others is no host and is left out (RFC 7505 §3 forbids the mixture).
    """
    shuffled = list(records)
    rng.shuffle(shuffled)
    shuffled.sort(key=lambda record: record.preference)
    return list(dict.fromkeys(host for host in (_host(record.host) for record in shuffled) if host))


def site_of(hosts: Sequence[str]) -> str:
    """Give the site that a set of MX hosts belongs to: the provider that runs one of them, else the set itself.

    The order of the hosts does not matter. A provider's site is its name; an MX set's is its sorted hosts, joined by
    commas, or their digest when that is longer than MAX_SITE.
    """
    names = sorted({name for name in map(_host, hosts) if name})
    for provider in PROVIDERS:
        if any(_runs(provider, name) for name in names):
            return provider.name
    site = ",".join(names)
    return site if len(site) <= MAX_SITE else f"mx-{hashlib.sha256(site.encode()).hexdigest()[:32]}"


def _host(host: str) -> str:
    """Give the one spelling of a host name; empty for the root."""
    return host.strip().rstrip(".").lower()


def _runs(provider: Provider, host: str) -> bool:
    """Whether one of the provider's patterns matches the host."""
    return any(fnmatchcase(host, pattern) for pattern in provider.mx)


def limits_of(site: str) -> Limits:
    """Give what the table says of a site: its provider's limits, over those of all sites."""
    provider = _BY_NAME.get(site)
    return provider.limits.over(DEFAULT_LIMITS) if provider else DEFAULT_LIMITS


def provider_name(site: str) -> str:
    """Give the site's provider, `other` for the many without one: a label that stays bounded."""
    return site if site in _BY_NAME else "other"


@lru_cache(1)
def _load() -> Mapping[str, object]:
    """Read providers.toml, which lies beside this module."""
    return tomllib.loads(Path(__file__).with_name("providers.toml").read_text(encoding="utf-8"))


def _load_providers() -> tuple[Provider, ...]:
    """Every row of the table."""
    rows = _load()["provider"]
    assert isinstance(rows, list)
    return tuple(_provider(row) for row in rows)


def _provider(row: dict[str, object]) -> Provider:
    """Build one row of the table; a row without its source is refused."""
    patterns, limits = row["mx"], row.get("limits", {"source": ""})
    assert isinstance(patterns, list)
    return Provider(
        str(row["name"]),
        tuple(str(pattern).lower() for pattern in patterns),
        str(row["source"]),
        _limits(limits),
        str(limits["source"]) if isinstance(limits, dict) else "",
    )


def _limits(row: object) -> Limits:
    """Read limits; anything but a whole number above 0 under a known name is refused."""
    assert isinstance(row, dict)
    values = {name: value for name, value in row.items() if name != "source"}
    known = {field.name for field in fields(Limits)}
    assert all(name in known and isinstance(value, int) and value > 0 for name, value in values.items()), row
    return Limits(**values)


PROVIDERS = _load_providers()
DEFAULT_LIMITS = _limits(_load()["default"])
_BY_NAME = {provider.name: provider for provider in PROVIDERS}
