"""Rewritten reverse paths of mail that is passed on."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.address import parse_mailbox
from relay_project.mail.srs import ExpiredSrs, ForgedSrs, NotSrs, Rewritten, read, rewrite

NEW, OLD = b"n" * 32, b"o" * 32
TODAY = date(2026, 11, 28)
IDS = st.integers(0, 2**53 - 1)
SENDERS = st.from_regex(r"[a-z0-9+_=-]{1,8}(\.[a-z0-9]{1,3})?@[a-z0-9]{1,10}\.example", fullmatch=True).filter(
    lambda sender: not sender.startswith("srs")
)


def made(sender: str = "alice@shop.example", send_id: int = 7, domain: str = "relay.example") -> str:
    address = rewrite(sender, send_id, domain, [NEW], TODAY)
    assert address is not None
    return address


@given(SENDERS, IDS)
def test_the_sender_comes_back_in_whatever_case_a_server_left_the_address(sender: str, send_id: int) -> None:
    address = made(sender, send_id)
    assert address.startswith("SRS0=")
    assert parse_mailbox(address).address == address
    assert read(address, [NEW], TODAY) == Rewritten(send_id, sender)
    assert read(f"<{address.lower()}>", [NEW], TODAY) == Rewritten(send_id, sender)
    assert read(address.upper(), [NEW], TODAY).sender.lower() == sender


def test_the_address_has_the_day_the_domain_and_the_name_where_everybody_looks_for_them() -> None:
    tag, opaque, day, host, local = made().partition("@")[0].split("=")
    assert (tag, len(opaque), len(day), host, local) == ("SRS0", 20, 2, "shop.example", "alice")


@given(IDS, st.integers(5, 200), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567=."))
def test_a_changed_address_is_no_way_to_send_mail_to_somebody_else(send_id: int, place: int, letter: str) -> None:
    local = made("alice@a.example", send_id).partition("@")[0]
    place %= len(local)
    changed = local[:place] + letter + local[place + 1 :]
    if changed.lower() == local.lower():
        return
    try:
        found = read(f"{changed}@relay.example", [NEW, OLD], TODAY)
    except (NotSrs, ForgedSrs):
        return
    assert place == 4, "only the separator behind SRS0 means nothing"
    assert found == Rewritten(send_id, "alice@a.example")


def test_an_address_is_good_for_three_weeks() -> None:
    address = made()
    for days in (-1, 0, 21):
        assert read(address, [NEW], TODAY + timedelta(days=days)).sender == "alice@shop.example"
    for days in (-2, 22, 500):
        with pytest.raises(ExpiredSrs):
            read(address, [NEW], TODAY + timedelta(days=days))


def test_days_begin_anew_without_a_gap() -> None:
    eve = date(1970, 1, 1) + timedelta(days=1023)
    address = rewrite("a@b.example", 1, "relay.example", [NEW], eve)
    assert address is not None
    assert read(address, [NEW], eve + timedelta(days=5)).send_id == 1


def test_the_first_key_makes_and_all_keys_verify() -> None:
    address = rewrite("a@b.example", 1, "relay.example", [OLD, NEW], TODAY)
    assert address is not None
    assert read(address, [NEW, OLD], TODAY).sender == "a@b.example"
    with pytest.raises(ForgedSrs):
        read(address, [NEW], TODAY)


def test_what_another_forwarder_rewrote_keeps_its_address_and_goes_back_to_it() -> None:
    address = made("SRS0=Hx4=TT=d.example=al@a.example")
    assert address.startswith("SRS1=")
    assert "=a.example==Hx4=TT=d.example=al@" in address
    assert read(address, [NEW], TODAY) == Rewritten(7, "SRS0=Hx4=TT=d.example=al@a.example")


def test_a_third_forwarder_does_not_make_it_longer_and_goes_back_to_the_first() -> None:
    address = made("SRS1=QQ=a.example==Hx4=TT=d.example=al@b.example")
    assert "b.example" not in address
    assert read(address, [NEW], TODAY).sender == "SRS0=Hx4=TT=d.example=al@a.example"
    assert made("SRS0+Hx4=TT=d.ex=al@a.example").count("=a.example=+Hx4=TT=d.ex=al@") == 1
    with pytest.raises(ForgedSrs):
        read(address.replace("=al@", "=ab@"), [NEW], TODAY)


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "alice",
        '"a b"@shop.example',
        ".a@shop.example",
        "a@[192.0.2.1]",
        "grüße@shop.example",
        "a" * 40 + "@shop.example",
        "SRS1=QQ=nothing@b.example",
    ],
)
def test_what_has_no_room_or_needs_quotes_has_no_such_address(sender: str) -> None:
    made_of = rewrite(sender, 7, "relay.example", [NEW], TODAY)
    assert made_of is None or len(made_of.partition("@")[0]) <= 64
    if not sender.startswith("SRS1"):
        assert made_of is None


@pytest.mark.parametrize(
    "address",
    ["", "<>", "alice@shop.example", "SRS0=Hx4=TT=d.example=al@a.example", "SRS0=" + "\u017f" * 20 + "=aa=b=c@d"],
)
def test_other_addresses_are_not_ours(address: str) -> None:
    with pytest.raises(NotSrs):
        read(address, [NEW], TODAY)


@given(st.text() | st.text().map(lambda text: f"SRS0=aaaaaaaaaaaaaaaaaaaa={text}@d"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises((NotSrs, ForgedSrs)):
        read(text, [NEW], TODAY)
