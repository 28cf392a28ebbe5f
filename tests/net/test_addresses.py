"""net.addresses and net.tcp on this very host."""

import ipaddress
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from relay_project.net.addresses import (
    AddressKind,
    can_bind,
    host_addresses,
    kind_of,
    network_identity,
    unfit_addresses,
)
from relay_project.net.tcp import free_port, port_is_free


def test_the_host_knows_its_addresses() -> None:
    addresses = host_addresses()
    assert "127.0.0.1" in addresses
    assert len(addresses) == len(set(addresses))
    for address in addresses:
        ipaddress.ip_address(address)
        assert can_bind(address)


def test_a_way_out_starts_at_one_of_them() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("no route out of this host")
        assert sock.getsockname()[0] in host_addresses()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", AddressKind.PUBLIC),
        ("2600::1", AddressKind.PUBLIC),
        ("10.0.0.1", AddressKind.PRIVATE),
        ("100.64.0.1", AddressKind.PRIVATE),
        ("192.0.2.7", AddressKind.PRIVATE),
        ("fd00::1", AddressKind.PRIVATE),
        ("127.0.0.2", AddressKind.LOOPBACK),
        ("::1", AddressKind.LOOPBACK),
        ("::ffff:127.0.0.1", AddressKind.LOOPBACK),
        ("169.254.1.1", AddressKind.LINK_LOCAL),
        ("fe80::1", AddressKind.LINK_LOCAL),
        ("fec0::2", AddressKind.PRIVATE),
        ("5f00::1", AddressKind.PRIVATE),
        ("::ffff:0:127.0.0.1", AddressKind.PRIVATE),
        ("64:ff9b::8.8.8.8", AddressKind.PUBLIC),
        ("64:ff9b::10.0.0.1", AddressKind.PRIVATE),
        ("64:ff9b::127.0.0.1", AddressKind.LOOPBACK),
        ("64:ff9b::169.254.169.254", AddressKind.LINK_LOCAL),
    ],
)
def test_addresses_have_their_kind(address: str, kind: AddressKind) -> None:
    assert kind_of(address) is kind


def test_every_loopback_address_can_be_bound_and_a_foreign_one_cannot() -> None:
    assert can_bind("127.0.0.2")
    assert not can_bind("192.0.2.7")
    assert not can_bind("not an address")


def test_a_port_is_free_until_somebody_listens() -> None:
    port = free_port()
    assert port_is_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free("127.0.0.1", port)
    assert not port_is_free("192.0.2.7", port)


def test_temporary_deprecated_and_unfinished_ipv6_addresses_are_told_apart() -> None:
    text = """\
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
20010db8000000000000000000000001 04 40 00 80     eth0
20010db8000000000000000000000002 04 40 00 01     eth0
20010db8000000000000000000000003 04 40 00 20     eth0
20010db8000000000000000000000004 04 40 00 40     eth0
20010db8000000000000000000000005 04 40 00 08     eth0
20010db8000000000000000000000006 04 40 00 00     eth0
nonsense
"""
    assert unfit_addresses(text) == {f"2001:db8::{number}" for number in (2, 3, 4, 5)}
    assert unfit_addresses("") == frozenset()


@pytest.fixture
def add() -> Iterator[Callable[..., None]]:
    """Adds addresses to the loopback interface, where that is allowed, and takes them away."""
    ip, added = shutil.which("ip"), []

    def one(address: str, *options: str) -> None:
        if ip is None or subprocess.run([ip, "addr", "add", address, "dev", "lo", *options], check=False).returncode:
            pytest.skip("addresses may not be added here")
        added.append(address)

    yield one
    for address in added:
        subprocess.run([str(ip), "addr", "del", address, "dev", "lo"], check=False)


def test_addresses_that_come_are_seen_and_deprecated_ones_are_not(add: Callable[..., None]) -> None:
    add("2001:db8:77::1/128", "nodad")
    add("2001:db8:77::2/128", "nodad", "preferred_lft", "0")
    add("192.0.2.77/32")
    found = host_addresses()
    assert {"2001:db8:77::1", "192.0.2.77"} <= set(found)
    assert "2001:db8:77::2" not in found
    assert can_bind("2001:db8:77::1")


def test_what_shares_a_network_stack_has_one_identity() -> None:
    assert network_identity() == network_identity()
    assert len(network_identity()) <= 128
    assert "net:[" in network_identity()
