"""Route: from a recipient's domain to the site and the hosts that take its mail.

SMTP_ROUTES first (the simulator domain, a sandbox for the whole internet, an operator's own hub), then DNS: MX by
preference and randomised within, null MX (RFC 7505), implicit MX (RFC 5321 §5.1). Nothing here touches the database.
"""

import ipaddress
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from relay_project.mail.mx import order_hosts, site_of
from relay_project.mail.reply import FailureKind, NetworkFailure
from relay_project.net.addresses import AddressKind, kind_of
from relay_project.net.conversation import Endpoint
from relay_project.net.dns_answer import NameNotFound, ResolverFailure
from relay_project.net.resolver import Resolver

ANY_DOMAIN = "*"
CACHED_SITES = 20_000  # MX sets; to match one against the providers' patterns takes longer than to send a mail
CACHED_ADDRESSES = 20_000


@dataclass(frozen=True, slots=True)
class Route:
    """Hosts in the order to try, and the site whose limits they share."""

    site: str
    hosts: tuple[str, ...]
    port: int
    is_fixed: bool = False  # the operator named it; what DNS names is in strangers' hands
    is_authentic: bool = False  # DNSSEC vouches for the hosts; worth what the path to the resolver is worth


class Unroutable(ConnectionError):
    """No host takes this domain's mail now; `failure` says why and classify() what follows from it."""

    def __init__(self, failure: NetworkFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass(slots=True)
class Router:
    """Finds routes; its resolver caches.

    Whoever owns a recipient's domain chooses its MX: without `allow_private` only public addresses are dialled, or
    anybody could have us talk to this machine's own mail server, which trusts us, and to our neighbours.
    """

    resolver: Resolver
    port: int
    routes: Mapping[str, str] = field(default_factory=dict)
    rng: random.Random = field(default_factory=random.SystemRandom)
    allow_private: bool = False

    async def route(self, domain: str) -> Route:
        """The domain's route; raises Unroutable."""
        fixed = self.routes.get(domain) or self.routes.get(ANY_DOMAIN)
        if fixed is not None:
            host, _, port = fixed.rpartition(":")
            return Route(site=host, hosts=(host.strip("[]"),), port=int(port), is_fixed=True)
        try:
            answer = await self.resolver.mx(domain)
        except NameNotFound as error:
            raise Unroutable(NetworkFailure(FailureKind.NO_SUCH_DOMAIN, str(error))) from None
        except ResolverFailure as error:
            raise Unroutable(NetworkFailure(FailureKind.DNS, str(error))) from None
        if answer.null:
            raise Unroutable(NetworkFailure(FailureKind.NULL_MX, f"{domain} accepts no mail (null MX)"))
        hosts = tuple(order_hosts(answer.records, self.rng))
        return Route(site=_site_of(tuple(sorted(hosts))), hosts=hosts, port=self.port, is_authentic=answer.authentic)

    async def endpoints(self, route: Route) -> AsyncIterator[Endpoint]:
        """Every address of every host, in order; a host that cannot be looked up is passed over while others remain.

        Raises Unroutable when no host had any address.
        """
        found, trouble = False, ""
        for host in route.hosts:
            try:
                addresses = await self._addresses(host)
            except (NameNotFound, ResolverFailure) as error:
                trouble = str(error)
                continue
            for address in addresses:
                if not (route.is_fixed or self.allow_private or _is_public(address)):
                    trouble = f"{host} is at {address}, which is not an address on the internet"
                    continue
                found = True
                yield Endpoint(host, address, route.port)
        if not found:
            raise Unroutable(NetworkFailure(FailureKind.DNS, trouble or f"no address for {', '.join(route.hosts)}"))

    async def _addresses(self, host: str) -> list[str]:
        literal = _literal(host)
        return [literal] if literal is not None else await self.resolver.addresses(host)


@lru_cache(CACHED_SITES)
def _site_of(hosts: tuple[str, ...]) -> str:
    return site_of(hosts)


@lru_cache(CACHED_ADDRESSES)
def _is_public(address: str) -> bool:
    return kind_of(address) is AddressKind.PUBLIC


@lru_cache(CACHED_ADDRESSES)
def _literal(host: str) -> str | None:
    """The address that stands where a name might; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
