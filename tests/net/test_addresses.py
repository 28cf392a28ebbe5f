"""net.addresses and net.tcp on this very host."""

import ipaddress
import socket

import pytest

from relay_project.net.addresses import AddressKind, can_bind, host_addresses, kind_of
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
