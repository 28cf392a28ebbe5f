"""sending.deliver.route: what DNS names is dialled only where strangers cannot aim at us."""

from collections.abc import Mapping

import pytest
from asgiref.sync import async_to_sync

from sending.deliver.route import Route, Router, Unroutable

PRIVATE = (
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    "10.0.0.7",
    "169.254.169.254",
    "fe80::1",
    "fd00::1",
    "224.0.0.1",
)


class Names:
    """Addresses by host name."""

    def __init__(self, known: Mapping[str, list[str]]) -> None:
        self.known = known

    async def addresses(self, host: str) -> list[str]:
        return self.known[host]


def dialled(router: Router, route: Route) -> list[str]:
    async def collect() -> list[str]:
        return [endpoint.address async for endpoint in router.endpoints(route)]

    return async_to_sync(collect)()


@pytest.mark.parametrize("address", PRIVATE)
def test_an_mx_that_leads_into_our_own_house_is_not_dialled(address: str) -> None:
    """Whoever owns a domain could have us relay through the mail server of this machine, which trusts us."""
    router = Router(Names({"mx.evil.test": [address]}), 25)
    for host in ("mx.evil.test", address):
        with pytest.raises(Unroutable, match="not an address on the internet"):
            dialled(router, Route("evil.test", (host,), 25))


def test_public_addresses_beside_private_ones_are_dialled() -> None:
    router = Router(Names({"mx.test": ["10.0.0.7", "9.9.9.9"]}), 25)
    assert dialled(router, Route("mx.test", ("mx.test",), 25)) == ["9.9.9.9"]


def test_the_operators_own_routes_and_intranets_may_be_private() -> None:
    fixed = Router(Names({}), 25, {"*": "127.0.0.1:2525"})
    assert dialled(fixed, async_to_sync(fixed.route)("x.test")) == ["127.0.0.1"]
    intranet = Router(Names({"mx.corp": ["10.0.0.7"]}), 25, allow_private=True)
    assert dialled(intranet, Route("mx.corp", ("mx.corp",), 25)) == ["10.0.0.7"]
