"""What server and receptions say to each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reply import parse_reply
from relay_project.net.smtp_server.model import MAX_REPLY_LINE, SmtpReply


def test_a_reply_has_its_enhanced_code_on_each_line() -> None:
    assert SmtpReply(550, "5.7.1", "No\nNever").encode() == b"550-5.7.1 No\r\n550 5.7.1 Never\r\n"


def test_a_reply_without_enhanced_code() -> None:
    assert SmtpReply(354, "", "Go ahead").encode() == b"354 Go ahead\r\n"


def test_nobody_brings_a_second_reply_in() -> None:
    """Lesson S6's neighbour: text of others may stand in a reply."""
    assert SmtpReply(550, "5.1.1", "<a\r\n250 2.0.0 Ok\x00\x85\u2028>").encode() == (
        b"550-5.1.1 <a\r\n550 5.1.1 250 2.0.0 Ok  >\r\n"
    )


@given(st.text(max_size=3000))
def test_whatever_the_text_one_reply_is_written(text: str) -> None:
    encoded = SmtpReply(450, "4.2.1", text).encode()
    lines = encoded.removesuffix(b"\r\n").split(b"\r\n")
    assert (parse_reply(lines).code, parse_reply(lines).enhanced) == (450, "4.2.1")
    assert all(len(line) <= MAX_REPLY_LINE + 10 and b"\n" not in line and b"\r" not in line for line in lines)


@pytest.mark.parametrize(("code", "enhanced"), [(20, ""), (700, ""), (250, "2.0"), (250, "2.0.0 x")])
def test_what_is_no_reply_is_refused(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match="not a reply"):
        SmtpReply(code, enhanced, "text")
