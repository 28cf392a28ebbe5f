"""Tokens of unsubscribe links."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.unsubscribe import MAX_VALUE, NotAToken, Subscription, field_value, make_token, read_token

NEW, OLD, FOREIGN = b"n" * 32, b"o" * 32, b"f" * 32
IDS = st.integers(0, 2**53 - 1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=64)
ONE = Subscription(7, 8, 9, "dora@example.test", "shop.example.test", "newsletter")


@given(IDS, IDS, IDS, TEXTS, TEXTS)
def test_a_token_comes_back(project_id: int, send_id: int, recipient_id: int, address: str, name: str) -> None:
    one = Subscription(project_id, send_id, recipient_id, address, "shop.example.test", name or None)
    assert read_token(make_token(one, [NEW]), [NEW]) == one


def test_a_token_shows_neither_address_nor_list() -> None:
    """URLs end up in logs and histories."""
    token = make_token(ONE, [NEW])
    raw = base64.urlsafe_b64decode(token + "==")
    for secret in (b"dora", b"example", b"newsletter", base64.b64encode(b"dora@example")):
        assert secret not in raw
        assert secret not in token.encode()


def test_the_first_key_makes_and_all_keys_read() -> None:
    old = make_token(ONE, [OLD])
    assert read_token(old, [NEW, OLD]) == ONE
    assert make_token(ONE, [NEW, OLD]) != old
    with pytest.raises(NotAToken):
        read_token(old, [NEW, FOREIGN])


@given(st.integers(0, 200), st.sampled_from("ABCDwxyz0123-_"))
def test_a_changed_token_is_none(place: int, letter: str) -> None:
    token = make_token(ONE, [NEW])
    place %= len(token) - 1  # the last letter has spare bits
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(NotAToken):
            read_token(changed, [NEW])


@given(st.text(max_size=200) | st.just("A" * 5000))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(NotAToken):
        read_token(text, [NEW])


def test_a_field_holds_the_link_first_and_no_more_than_a_line_can() -> None:
    assert field_value("https://relay.example/u/x") == "<https://relay.example/u/x>"
    assert field_value("https://r/u", "mailto:a@b.example") == "<https://r/u>, <mailto:a@b.example>"
    with pytest.raises(ValueError, match="longer"):
        field_value("https://relay.example/" + "x" * MAX_VALUE)
