"""MX records: the order in which hosts are tried, null MX, and the site that shares limits."""

import hashlib
import random
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

MAX_SITE = 200  # characters of a site's name; a longer MX set is named by its digest, so that keys stay short


@dataclass(frozen=True, slots=True)
class MxRecord:
    """One MX record of RFC 1035 §3.3.9."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A receiver whose many MX hosts count as one site; `source` says where the patterns are published."""

    name: str
    mx: tuple[str, ...]
    source: str


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


@lru_cache(1)
def _load_providers() -> tuple[Provider, ...]:
    """Read providers.toml, which lies beside this module."""
    rows: Iterable[dict[str, object]] = tomllib.loads(
        Path(__file__).with_name("providers.toml").read_text(encoding="utf-8")
    )["provider"]
    return tuple(_provider(row) for row in rows)


def _provider(row: dict[str, object]) -> Provider:
    """Build one row of the table; a row without its source is refused."""
    patterns = row["mx"]
    assert isinstance(patterns, list)
    return Provider(str(row["name"]), tuple(str(pattern).lower() for pattern in patterns), str(row["source"]))


PROVIDERS = _load_providers()
