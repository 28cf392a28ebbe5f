"""web.proxies: whom we believe about who is calling."""

import ipaddress

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from relay_project.net.addresses import read_address
from relay_project.web.proxies import TrustedProxies, client_address

PROXY = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:1::/48")]


def seen(settings, trusted, peer, **headers):
    """The request as the views see it."""
    settings.TRUSTED_PROXIES = trusted
    kept: list[HttpRequest] = []

    def view(request: HttpRequest) -> HttpResponse:
        kept.append(request)
        return HttpResponse()

    TrustedProxies(view)(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers))
    return kept[0]


def test_nobody_is_trusted_by_default(settings):
    """Lesson S4: a host on the private network cannot pose as another one."""
    assert settings.TRUSTED_PROXIES == []
    request = seen(settings, [], "10.1.2.3", X_Forwarded_For="127.0.0.1", X_Forwarded_Proto="https")
    assert request.META["REMOTE_ADDR"] == "10.1.2.3"
    assert not request.is_secure()


def test_a_named_proxy_is_believed(settings):
    request = seen(settings, PROXY, "10.1.2.3", X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https")
    assert request.META["REMOTE_ADDR"] == "198.51.100.7"
    assert request.is_secure()


def test_what_the_client_wrote_itself_is_left_out(settings):
    """Lesson S4: the right-most address that is not ours counts, not the left-most one."""
    request = seen(settings, PROXY, "10.1.2.3", X_Forwarded_For="127.0.0.1, 198.51.100.7, 10.9.9.9")
    assert request.META["REMOTE_ADDR"] == "198.51.100.7"


def test_a_client_that_is_not_a_proxy_cannot_claim_https(settings):
    request = seen(settings, PROXY, "198.51.100.7", X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="https")
    assert request.META["REMOTE_ADDR"] == "198.51.100.7"
    assert not request.is_secure()


def test_only_the_last_forwarded_scheme_counts(settings):
    assert not seen(settings, PROXY, "10.1.2.3", X_Forwarded_Proto="https, http").is_secure()


def test_an_unreadable_hop_ends_what_is_believed(settings):
    request = seen(settings, PROXY, "10.1.2.3", X_Forwarded_For="198.51.100.7, unknown, 10.2.2.2")
    assert request.META["REMOTE_ADDR"] == "10.2.2.2"


def test_a_unix_socket_has_no_peer_to_trust(settings):
    assert seen(settings, PROXY, "", X_Forwarded_For="198.51.100.7").META["REMOTE_ADDR"] == ""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7:51234 ", "192.0.2.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("192.0.2.7%eth0", None),
        ("unknown", None),
        ("", None),
        ("192.0.2.7.", None),
        ("١٩٢.0.2.7", None),
    ],
)
def test_addresses_are_read_with_and_without_ports(text, address):
    assert read_address(text) == (ipaddress.ip_address(address) if address else None)


def test_when_all_hops_are_ours_the_farthest_one_is_the_client():
    peer = ipaddress.ip_address("10.0.0.1")
    assert str(client_address(peer, ["10.0.0.3", "10.0.0.2"], PROXY)) == "10.0.0.3"
