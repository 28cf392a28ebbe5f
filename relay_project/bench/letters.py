"""The mail of a benchmark: every message has words, a subject and a recipient of its own, the same ones every run."""

import random
from collections.abc import Iterator

from relay_project.mail.mime import NamedAddress
from sending.accept.request import RequestedRecipient, SendRequest
from sending.models import RecipientType

SENDER_DOMAIN = "sender.test"
RECIPIENT_DOMAINS = 100
LINE = 72  # characters of a line of text, as people and programs write it
HTML_SHARE = 0.7  # of the body's bytes; the rest is the text alternative
PARAGRAPH = (
    "about account after again also answer before better between change company could council country course day "
    "different early every example family first found future general given going government group head help high home "
    "house important interest invoice just keep kind large last later leave letter life line little local long made "
    "market matter meeting might money month more morning much name national need never next night nothing number "
    "often only order other over paper part payment people person place point policy power present price problem"
)


def text_of(number: int, size: int) -> str:
    """About `size` bytes of lines of words, as the number has it."""
    rng = random.Random(number)  # noqa: S311 - the same mail every run
    lines = [PARAGRAPH[at : at + LINE - 12].strip() for at in range(rng.randrange(LINE), len(PARAGRAPH), LINE)]
    rng.shuffle(lines)
    paragraph = "\n".join(f"{line} {number}" for line in lines) + "\n\n"
    return (paragraph * (size // len(paragraph) + 1))[:size].rstrip() + "\n"


def letter(number: int, body_bytes: int) -> SendRequest:
    """The message of that number; its recipient's local part ends with the number, so that the sink knows it again."""
    html_bytes = int(body_bytes * HTML_SHARE)
    html = f"<html><body><p>{text_of(-number - 1, max(html_bytes - 40, 40))}</p></body></html>"
    return SendRequest(
        from_=NamedAddress(f"news@{SENDER_DOMAIN}", "The Sender"),
        recipients=(RequestedRecipient(RecipientType.TO, recipient(number), f"Recipient {number}"),),
        subject=f"Message {number} of a benchmark",
        body_html=html,
        body_text=text_of(number, max(body_bytes - len(html), 20)),
    )


def recipient(number: int) -> str:
    """Its address."""
    return f"someone-{number}@r{number % RECIPIENT_DOMAINS}.test"


def batches(messages: int, body_bytes: int, batch: int) -> Iterator[list[SendRequest]]:
    """All of them, in batches."""
    for begin in range(0, messages, batch):
        yield [letter(number, body_bytes) for number in range(begin, min(begin + batch, messages))]
