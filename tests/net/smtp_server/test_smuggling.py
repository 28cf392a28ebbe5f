"""Nothing but CRLF.CRLF ends a message, whatever some server somewhere takes for an end (CVE-2023-51764, -51765, -51766)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.lines import has_longer_line
from relay_project.net.smtp_server.data import CRS, MAX_TEXT_LINE, PIECE, Intake, Refusal, canonical_pieces
from relay_project.net.smtp_server.model import Service

BODY = b"Subject: x\r\n\r\nhello"
SECOND_MAIL = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n\x00.\x00\r\n",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    b"\r\n.\x0b\r\n",
]


def message_of(intake: Intake) -> bytes:
    return asyncio.run(intake.message())


def unbroken(text: bytes) -> bytes:
    return text.replace(b"\r", b"").replace(b"\n", b"")


@pytest.mark.parametrize("false_end", FALSE_ENDS, ids=repr)
@pytest.mark.parametrize("service", [Service.MX, Service.SUBMISSION])
async def test_a_false_end_ends_nothing(serve, service, false_end) -> None:
    """One mail comes of it, with the second one as its text."""
    async with serve() as served:
        client = await served.connect(service)
        if service is Service.SUBMISSION:
            await client.log_in()
        await client.begin_mail()
        await client.send(BODY + false_end + SECOND_MAIL + b"\r\n.\r\n")
        assert (await client.reply()).code == 250
        assert (await client.ask(b"QUIT")).code == 221
        assert await client.is_hung_up_on()
        [mail] = served.reception.mails
    assert mail.octets.startswith(BODY)
    assert b"MAIL FROM:<evil@x.test>" in mail.octets
    assert mail.octets.endswith(b"\r\n")
    assert mail.octets.count(b"\n") == mail.octets.count(b"\r") == mail.octets.count(b"\r\n")


@pytest.mark.parametrize("false_end", FALSE_ENDS, ids=repr)
def test_a_false_end_ends_nothing_however_it_is_cut(false_end) -> None:
    text = BODY + false_end + b"more\r\n.\r\nQUIT\r\n"
    for size in (1, 2, 3, 5, 7):
        intake, at = Intake(10_000), 0
        while (used := intake.feed(text[at : at + size])) is None:
            at += size
        assert text[: at + used] == BODY + false_end + b"more\r\n.\r\n"
        assert message_of(intake) == b"".join(canonical_pieces(b"\r\n" + BODY + false_end + b"more\r\n"))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..a\r\n...\r\n..\r\n.\r\n", b".a\r\n..\r\n.\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\nb\rc\r\r\nd\r\n.\r\n", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"a\n.b\r\n.\r\n", b"a\r\n.b\r\n"),
        (b"a\r\rb\n\nc\r\n.\r\n", b"a\r\n\r\nb\r\n\r\nc\r\n"),
    ],
)
def test_dots_are_unstuffed_and_lines_end_in_crlf(sent, kept) -> None:
    """RFC 5321 §4.5.2; a dot behind a lone line feed was not stuffed by anybody."""
    intake = Intake(1000)
    assert intake.feed(sent) == len(sent)
    assert message_of(intake) == kept


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\x00", b"\r\n."]), max_size=40), st.data())
def test_only_crlf_dot_crlf_ends_whatever_the_text_and_the_pieces(words, data) -> None:
    """Against a reading by lines, which knows CRLF alone."""
    octets = b"".join(words) + b"\r\n.\r\nQUIT\r\n"
    lines: list[bytes] = []
    for line in octets.split(b"\r\n"):
        if line == b".":
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    text = b"".join(line + b"\r\n" for line in lines)
    intake, at = Intake(1000), 0
    while (used := intake.feed(octets[at : at + (size := data.draw(st.integers(1, 9)))])) is None:
        at += size
    assert octets[at + used - 3 : at + used] == b".\r\n"
    message = message_of(intake)
    assert message.replace(b"\r\n", b"\n").replace(b"\n", b"").replace(b"\r", b"") == text.replace(b"\r", b"").replace(
        b"\n", b""
    )
    assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")


def test_what_follows_the_end_is_left() -> None:
    assert Intake(1000).feed(b"a\r\n.\r\nMAIL") == 6


def test_a_message_of_just_the_limit_is_taken_with_its_dots() -> None:
    text = b".\r\n" * 100
    intake = Intake(len(text))
    assert intake.feed(text.replace(b".", b"..") + b".\r\n") is not None
    assert message_of(intake) == text


def test_a_message_over_the_limit_is_passed_over_in_a_few_octets() -> None:
    intake = Intake(100)
    for _ in range(1000):
        assert intake.feed(b"x" * 50 + b"\r\n") is None
        assert intake.kept < 300
    assert intake.feed(b".\r\nQUIT") == 3
    assert message_of(intake) == b""
    assert intake.refusal is Refusal.TOO_BIG


def test_a_message_that_outgrows_the_limit_by_its_line_ends_is_refused() -> None:
    intake = Intake(100)
    assert intake.feed(b"\n" * 99 + b"\r\n.\r\n") is not None
    assert (message_of(intake), intake.refusal) == (b"", Refusal.TOO_BIG)


def test_long_lines_are_taken_up_to_a_bound() -> None:
    """RFC 5321 §4.5.3.1.6 says 1000 octets; reports hold what they hold."""
    line = b"x" * (MAX_TEXT_LINE - 2)
    assert not has_longer_line(b"a\r\n" + line + b"\r\n" + line + b"\r\nb\r\n", MAX_TEXT_LINE)
    assert has_longer_line(b"a\r\n" + line + b"yyy\r\nb\r\n", MAX_TEXT_LINE)
    assert has_longer_line(b"a\r\n" + line * 3, MAX_TEXT_LINE)


@pytest.mark.parametrize("unit", [b"\n", b"\r", b"a\r\r\n", b"\r\n\n", b"abc\r"])
def test_line_ends_are_made_the_same_in_pieces_as_at_once(unit) -> None:
    text = unit * (3 * PIECE // len(unit) + 5)
    intake = Intake(10 * len(text))
    intake.feed(text + b"\r\n.\r\n")
    message = message_of(intake)
    expected = (text + b"\r\n").replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r")
    assert abs(message.count(b"\n") - expected.count(b"\n")) <= 3  # a run of CRs that is longer than a piece


@pytest.mark.parametrize("unit", [b"\n", b"\r", b"\r\n"])
async def test_no_line_ends_hold_the_loop(unit) -> None:
    """Ten megabytes of them took 160 ms at a time; a piece takes a few."""
    intake = Intake(10 * 1024 * 1024)
    intake.feed(unit * (10_000_000 // len(unit)) + b"\r\n.\r\n")
    turns = 0
    message = asyncio.create_task(intake.message())
    while not message.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 75
    assert max(map(len, canonical_pieces(b"\r\n" + unit * PIECE * 3))) <= 2 * (PIECE + CRS)


def test_dots_are_unstuffed_at_the_beginning_of_a_piece_too() -> None:
    line = b"x" * 1022 + b"\r\n"
    text = b"\r\n" + line * 64 + b"..dot\r\n" + line + b"\n.bare\r\n"
    assert len(line) * 64 == PIECE
    assert b"".join(canonical_pieces(text)) == line * 64 + b".dot\r\n" + line + b"\r\n.bare\r\n"
