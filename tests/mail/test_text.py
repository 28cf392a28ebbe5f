"""Text from outside is made harmless."""

from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.text import clean


def test_bytes_that_are_no_utf8_are_replaced_and_nul_is_dropped() -> None:
    """Lesson C3: such a reply made the insert fail and the mail loop for ever."""
    assert clean(b"550 gr\xfc\xdfe\x00 aus \x1b[31mB\r\n") == "550 gr\ufffd\ufffde aus [31mB\n"


def test_a_cut_is_made_between_characters() -> None:
    """Lesson C11: a cut in the middle of a character made invalid UTF-8."""
    assert clean("ä" * 10, limit=3) == "äää"


@given(st.one_of(st.binary(), st.text(st.characters())), st.integers(0, 50))
def test_anything_becomes_storable_text(raw: bytes | str, limit: int) -> None:
    text = clean(raw, limit)
    assert len(text) <= limit
    assert "\x00" not in text
    text.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean(text, len(text)) == text
    assert clean(text.encode(), len(text)) == text
