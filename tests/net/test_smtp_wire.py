"""net.smtp_wire fed with whatever arrives, in whatever pieces."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reply import FailureKind
from relay_project.net.smtp_wire import Wire, WireReply

LINES = st.sampled_from(
    [b"250 ok\r\n", b"250-more\r\n", b"550 5.1.1 no\r\n", b"421 bye\r\n", b"250\n", b"\xff\x00\r\n", b"\r\n"]
)
PIECES = st.lists(st.one_of(LINES, st.binary(max_size=20)), max_size=12)


def feed(pieces: list[bytes], expected: int) -> tuple[Wire, list[WireReply]]:
    """Give a wire the pieces and then the end of the connection."""

    async def run() -> tuple[Wire, list[WireReply]]:
        wire = Wire()
        wire.expect([1.0] * expected)
        for piece in pieces:
            wire.data_received(piece)
        wire.connection_lost(None)
        return wire, await wire.collect()

    return asyncio.run(run())


@given(PIECES, st.integers(1, 4))
def test_whatever_arrives_ends_in_replies_or_a_reason(pieces: list[bytes], expected: int) -> None:
    wire, replies = feed(pieces, expected)
    assert len(replies) <= expected
    assert wire.failure is not None
    assert "\0" not in wire.failure.text
    for reply, _ in replies:
        assert 200 <= reply.code <= 599
        assert "\0" not in reply.text
    if len(replies) < expected and not wire.closing:
        assert wire.failure.kind in (FailureKind.CUT, FailureKind.PROTOCOL)


@given(st.lists(LINES, max_size=8), st.integers(1, 4))
def test_where_the_packets_break_does_not_matter(lines: list[bytes], expected: int) -> None:
    whole = b"".join(lines)
    _, together = feed([whole], expected)
    _, apart = feed([whole[at : at + 1] for at in range(len(whole))], expected)
    assert [reply for reply, _ in together] == [reply for reply, _ in apart]
