"""Return-path tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.address import parse_mailbox
from relay_project.mail.verp import ForgedToken, NotAToken, Token, make_reverse_path, read_reverse_path

NEW, OLD, FOREIGN = b"n" * 32, b"o" * 32, b"f" * 32
IDS = st.integers(0, 2**53 - 1)


@given(IDS, IDS)
def test_a_token_comes_back_in_any_case(send_id: int, attempt_id: int) -> None:
    path = make_reverse_path(send_id, attempt_id, "relay.example", [NEW])
    local = path.partition("@")[0]
    assert local == local.lower()
    for spelling in (path, path.upper(), f"<{path}>", local, local.title()):
        assert read_reverse_path(spelling, [NEW]) == Token(send_id, attempt_id)


def test_a_token_is_a_legal_address() -> None:
    path = make_reverse_path(2**53 - 1, 2**53 - 1, "relay.example", [NEW])
    assert len(path.partition("@")[0]) <= 64
    assert parse_mailbox(path).address == path


def test_the_first_key_makes_and_all_keys_verify() -> None:
    old = make_reverse_path(1, 2, "relay.example", [OLD])
    assert read_reverse_path(old, [NEW, OLD]) == Token(1, 2)
    assert make_reverse_path(1, 2, "relay.example", [NEW, OLD]) != old
    with pytest.raises(ForgedToken):
        read_reverse_path(old, [NEW])


@given(IDS, IDS, st.integers(2, 49), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_token_is_a_forgery(send_id: int, attempt_id: int, place: int, letter: str) -> None:
    """Lesson S7: an unsigned return path let any recipient forge bounces of the others."""
    local = make_reverse_path(send_id, attempt_id, "relay.example", [NEW]).partition("@")[0]
    changed = local[:place] + letter + local[place + 1 :]
    if changed == local:
        assert read_reverse_path(changed, [NEW]) == Token(send_id, attempt_id)
    else:
        with pytest.raises(ForgedToken):
            read_reverse_path(changed, [NEW, OLD, FOREIGN])


@pytest.mark.parametrize(
    "address", ["", "<>", "b.@relay.example", "bounce@relay.example", "b." + "1" * 48, "b." + "a" * 47, "b." + "ä" * 48]
)
def test_other_addresses_are_no_tokens(address: str) -> None:
    with pytest.raises(NotAToken):
        read_reverse_path(address, [NEW])


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises((NotAToken, ForgedToken)):
        read_reverse_path(text, [NEW])
