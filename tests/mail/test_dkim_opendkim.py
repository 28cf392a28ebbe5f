"""Our signatures, judged by OpenDKIM and by dkimpy: 200 messages as our writer makes them and as only the RFC allows."""

import random
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from relay_project.mail.dkim import sign
from relay_project.mail.mime import Attachment, Message, NamedAddress, compose
from tests.mail.opendkim import judge
from tests.mail.test_dkim import DOMAIN, ED25519, INSTANCE, NOW, RECORDS, varied, verifies

pytestmark = pytest.mark.opendkim

WORDS = ("Hello", "größer", "日本語", "привет", "🎈", "a" * 90, "=20", "x\ty", "  two  spaces  ", ".", "From here", "")
TEXTS = (
    "",
    "\r\n",
    "Hello.",
    "Hello.\r\n\r\n\r\n",
    "trailing \t \r\nspaces  \r\n \r\n",
    ".\r\n..\r\n.dots\r\n",
    "x" * 5000,
    ("long words " * 400).strip() + "\r\n",
    "größer 日本語 🎈\r\n" * 50,
    "a lone \r return and a lone \n feed",
)


def written(seed: int) -> bytes:
    """A message by our writer, out of what a customer may give."""
    rng = random.Random(seed)
    words = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 25)))
    html = rng.choice((None, "<p>Hi</p>", f"<p>{words}</p>\r\n" * 40))
    text = rng.choice(TEXTS)
    return compose(
        Message(
            from_=NamedAddress("alice@example.com", rng.choice((None, "Alice", words[:200]))),
            to=tuple(
                NamedAddress(f"bob{n}@example.net", rng.choice((None, words[:60]))) for n in range(rng.randrange(9))
            ),
            cc=(NamedAddress("cc@example.net", None),) * rng.randrange(2),
            subject=rng.choice((None, "", "Hi", words, "no-break " * 60)),
            headers=tuple((f"X-Tag-{n}", rng.choice(("", "v", words[:300]))) for n in range(rng.randrange(5))),
            text=text,
            html=html,
            attachments=tuple(_attachment(rng, number) for number in range(rng.randrange(4))),
            message_id=f"{seed}@example.com",
            date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            mailer="Relay v0",
        )
    )


def _attachment(rng: random.Random, number: int) -> Attachment:
    name = rng.choice((f"file{number}.pdf", "größer.png", None, "a very long name " * 12 + ".txt"))
    return Attachment(rng.randbytes(rng.choice((0, 1, 57, 5000))), name, None, None)


@cache
def messages() -> tuple[bytes, ...]:
    """A hundred of ours, a hundred that test canonicalisation."""
    return (*(written(seed) for seed in range(100)), *(varied(seed) for seed in range(100)))


def test_both_judges_verify_both_signatures_of_two_hundred_messages(tmp_path: Path) -> None:
    signed = [sign(message, [DOMAIN, INSTANCE], NOW) + message for message in messages()]
    expected = [("example.com", "pass"), ("relay.example", "pass")]
    told = judge(signed, RECORDS, tmp_path)
    assert [number for number, results in enumerate(told) if results != expected] == []
    doubted = [n for n, message in enumerate(signed) if not (verifies(message, 0) and verifies(message, 1))]
    assert doubted == []


def test_both_judges_verify_ed25519_beside_rsa(tmp_path: Path) -> None:
    signed = [sign(message, [ED25519, DOMAIN], NOW) + message for message in messages()[::4]]
    told = judge(signed, RECORDS, tmp_path)
    assert [number for number, results in enumerate(told) if results != [("example.com", "pass")] * 2] == []
    assert all(verifies(message, 0) for message in signed)


def test_the_messages_are_as_varied_as_they_should_be() -> None:
    bodies = [message.partition(b"\r\n\r\n")[2] for message in messages()]
    assert len(set(messages())) == 200
    assert any(not body.strip() for body in bodies), "an empty one"
    assert any(body.endswith(b"\r\n\r\n\r\n") for body in bodies), "blank lines at the end"
    assert any(max(map(len, body.split(b"\r\n"))) > 70 for body in bodies), "long lines"
    assert any(b"multipart/mixed" in message for message in messages()), "attachments"
    assert any(b"=?utf-8?" in message for message in messages()), "encoded words"
    assert any(max(message) > 127 for message in messages()), "octets beyond ASCII"
    assert any(b"\r\n\t" in message.partition(b"\r\n\r\n")[0] for message in messages()), "folded headers"


@pytest.mark.parametrize(
    ("old", "new"), [(b"\r\n\r\n", b"\r\n\r\nmore"), (b"Alice", b"Mallory"), (b"t=1767323045", b"t=1767323046")]
)
def test_the_judge_refuses_what_was_changed(old: bytes, new: bytes, tmp_path: Path) -> None:
    message = b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: Hi\r\n\r\na body\r\n"
    signed = sign(message, [DOMAIN], NOW) + message
    told = judge([signed, signed.replace(old, new, 1)], RECORDS, tmp_path)
    assert told[0] == [("example.com", "pass")]
    assert told[1] != told[0]
