"""SMTP replies as they really come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reply import MalformedReply, Reply, Stage, parse_reply


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"250 OK\r\n"], Reply(250, None, "OK")),
        ([b"250"], Reply(250, None, "")),
        ([b"250 "], Reply(250, None, "")),
        ([b"550 5.1.1 No such user"], Reply(550, "5.1.1", "No such user")),
        ([b"550 5.1.1"], Reply(550, "5.1.1", "")),
        (
            [b"550-5.1.1 No such\r\n", b"550-5.1.1 user, see\r\n", b"550 5.1.1 here\r\n"],
            Reply(550, "5.1.1", "No such\nuser, see\nhere"),
        ),
        ([b"550-5.7.1 first", b"550 no code here"], Reply(550, "5.7.1", "first\nno code here")),
        ([b"550 4.2.2 contradicts itself"], Reply(550, None, "4.2.2 contradicts itself")),
        ([b"220 2.4.0.example.com ESMTP"], Reply(220, None, "2.4.0.example.com ESMTP")),
        (
            [b"250-mx.example.com", b"250-PIPELINING", b"250 SIZE 100"],
            Reply(250, None, "mx.example.com\nPIPELINING\nSIZE 100"),
        ),
        ([b"354 go ahead"], Reply(354, None, "go ahead")),
        ([b"550 5.4.310 DNS domain gone"], Reply(550, "5.4.310", "DNS domain gone")),
    ],
)
def test_a_reply_is_read(lines: list[bytes], reply: Reply) -> None:
    assert parse_reply(lines) == reply


def test_hostile_octets_become_text() -> None:
    """Lesson C3: a reply that is not UTF-8, or has NUL, is stored readable and harms nothing."""
    assert parse_reply([b"451 Bo\xeete\x00 pleine\r\n"]) == Reply(451, None, "Bo\ufffdte pleine")


def test_an_endless_reply_is_cut() -> None:
    reply = parse_reply([b"550-" + b"x" * 5000] * 500 + [b"550 end"])
    assert len(reply.text) == 2000


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"hello"],
        [b"25"],
        [b"2500 no"],
        [b"250_no"],
        [b"150 no"],
        [b"600 no"],
        [b"250-unfinished"],
        [b"250 early", b"250 end"],
        [b"250-one", b"550 other"],
        [b"\xff50 x"],
    ],
)
def test_what_is_no_reply_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(MalformedReply):
        parse_reply(lines)


def test_a_reply_prints_on_one_line() -> None:
    assert str(Reply(550, "5.1.1", "No such\nuser")) == "550 5.1.1 No such user"
    assert str(Reply(250, None, "")) == "250"


def test_the_stages_have_the_contracts_names() -> None:
    contract = {"dial", "hello", "starttls", "mail", "rcpt", "data", "data_close", "quit"}
    assert {stage.value for stage in Stage} == contract | {"route"}


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_lines_are_read_or_refused(lines: list[bytes]) -> None:
    try:
        reply = parse_reply(lines)
    except MalformedReply:
        return
    assert 200 <= reply.code <= 599


@given(
    st.integers(200, 599),
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60), min_size=1, max_size=5),
)
def test_no_word_of_a_reply_is_lost(code: int, texts: list[str]) -> None:
    lines = [f"{code}-{text}".encode() for text in texts[:-1]] + [f"{code} {texts[-1]}".encode()]
    reply = parse_reply(lines)
    assert reply.code == code
    words = "\n".join(texts).split()
    kept = f"{reply.enhanced or ''} {reply.text}".split()
    assert [word for word in words if word != reply.enhanced] == [word for word in kept if word != reply.enhanced]
