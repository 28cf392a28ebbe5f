"""webhooks.live.asked and rights: what a client may ask for, from which page, and what it may see."""

import pytest

from projects.events import EventKind
from projects.scopes import SCOPES, Scope
from relay_project.web.errors import ApiError
from webhooks.live.asked import Asked, network_of, read_asked
from webhooks.live.rights import may_see, scope_of


def asked(query: str = "", kind: str = "http", **headers: str) -> Asked:
    named = {"authorization": "Bearer x", "host": "live.test:8001", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items() if value]
    return read_asked({"type": kind, "query_string": query.encode(), "headers": pairs, "client": ("192.0.2.7", 5)})


def test_it_reads_what_is_asked_for():
    found = asked("after=12&kinds=domain.created,send.recipient.bounced&send_id=7&project_id=3", last_event_id="11")
    assert (found.after, found.send_id, found.project_id) == (12, 7, "3"), "the query is newer than the header"
    assert found.kinds == {"domain.created", "send.recipient.bounced"}
    assert (found.address, found.authorization, found.token) == ("192.0.2.7", "Bearer x", None)
    assert asked(last_event_id="11").after == 11
    assert asked("after=0").after == 0
    assert (asked().after, asked("after=").after, asked().kinds) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=99999999999999999999999", "after"),
        ("after=9007199254740992", "after"),
        ("after=%00", "after"),
        ("send_id=1.5", "send_id"),
        ("kinds=domain.created,nothing", "kinds[1]"),
        ("kinds=,", "kinds[0]"),
        ("kinds=%ED%A0%80", "kinds[0]"),
    ],
)
def test_nonsense_is_refused_by_its_field(query: str, field: str):
    with pytest.raises(ApiError) as refused:
        asked(query)
    assert (refused.value.status, refused.value.message.split(":")[0]) == (422, field)


def test_a_query_of_a_thousand_fields_or_too_long_is_refused():
    for query in ("&".join(f"a{number}=1" for number in range(1000)), "token=" + "x" * 5000, "a=\xff"):
        with pytest.raises(ApiError) as refused:
            asked(query)
        assert refused.value.status == 400


def test_only_pages_of_this_site_or_named_ones_open_a_stream(settings):
    """Cross-site WebSocket hijacking: a strange page's socket would carry the person's cookie."""
    settings.WEB_URL, settings.LIVE_ORIGINS = "https://relay.test", ["https://shop.test"]
    for origin in ("https://relay.test", "https://shop.test", "http://live.test:8001", ""):
        assert asked(origin=origin).origin == (origin or None)
    for origin in ("https://evil.test", "null", "https://relay.test.evil.test", "http://[", "https://relay.test/"):
        with pytest.raises(ApiError, match="LIVE_ORIGINS"):
            asked(origin=origin)
    with pytest.raises(ApiError, match="only from a page"):
        asked(kind="websocket", authorization="", cookie="relay_session=abc")
    assert asked(
        kind="websocket", authorization="", cookie="relay_session=abc", origin="https://relay.test"
    ).session_key


def test_an_address_is_what_the_trusted_proxies_tell_and_a_v6_client_counts_by_its_network(settings):
    import ipaddress

    assert asked(x_forwarded_for="203.0.113.9").address == "192.0.2.7", "nobody is trusted by default"
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("192.0.2.0/24")]
    assert asked(x_forwarded_for="198.51.100.1, 203.0.113.9").address == "203.0.113.9"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") == "2001:db8::/64"
    assert (network_of("192.0.2.7"), network_of("")) == ("192.0.2.7", "")


def test_every_kind_has_the_scope_that_reads_its_things():
    assert {scope_of(kind) for kind in EventKind} <= set(SCOPES)
    assert scope_of(EventKind.BOUNCED) is Scope.SENDS_READ
    assert scope_of(EventKind.API_KEY_CREATED) is Scope.API_KEYS_READ
    assert scope_of(EventKind.PROJECT_SUSPENDED) is Scope.PROJECT_READ
    assert may_see("domain.created", ["domains.read"])
    assert not may_see("send.queued", ["domains.read"])
