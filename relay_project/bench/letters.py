"""The mail of a benchmark: every message has words, a subject and recipients of its own, the same ones every run."""

import random
from collections.abc import Iterator

from relay_project.bench.plan import Traffic
from relay_project.mail.mime import Attachment, NamedAddress
from sending.accept.request import RequestedRecipient, SendRequest
from sending.models import RecipientType

RECIPIENT_DOMAINS = 100
TARPIT_DOMAIN = "tarpit.test"
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


def sender_domain(project: int) -> str:
    """The From domain of the project of that number."""
    return f"sender{project or ''}.test"


def letter(
    number: int, body_bytes: int = 2048, traffic: Traffic | None = None, domain: str = "", project: int = 0
) -> SendRequest:
    """The message of that number. Each recipient's local part ends with a number of its own, so that the sink knows it
    again: those of message n with k recipients are n * k … n * k + k - 1. `domain` puts them all into one domain."""
    traffic = traffic or Traffic(body_bytes=body_bytes)
    html, text = _bodies(number, traffic)
    first = number * traffic.recipients
    return SendRequest(
        from_=NamedAddress(f"news@{sender_domain(project)}", "The Sender"),
        recipients=tuple(
            RequestedRecipient(RecipientType.TO, recipient(each, number, traffic.domains, domain), f"Recipient {each}")
            for each in range(first, first + traffic.recipients)
        ),
        subject=f"Message {number} of a benchmark",
        body_html=html,
        body_text=text,
        attachments=_attachments(number, traffic),
    )


def recipient(number: int, message: int, domains: int = RECIPIENT_DOMAINS, domain: str = "") -> str:
    """The address of a recipient; those of one message share a domain."""
    return f"someone-{number}@{domain or f'r{message % domains}.test'}"


def batches(traffic: Traffic, batch: int) -> Iterator[tuple[int, list[SendRequest]]]:
    """All messages in batches, with the number of the project that each batch belongs to: they take turns."""
    for at, first in enumerate(range(0, traffic.messages, batch)):
        project = at % traffic.projects
        last = min(first + batch, traffic.messages)
        yield project, [letter(number, traffic=traffic, project=project) for number in range(first, last)]


def _bodies(number: int, traffic: Traffic) -> tuple[str | None, str]:
    size = traffic.body_bytes
    if not _is_chosen(number, traffic.html_share):
        return None, text_of(number, size)
    html_bytes = int(size * HTML_SHARE)
    html = f"<html><body><p>{text_of(-number - 1, max(html_bytes - 40, 40))}</p></body></html>"
    return html, text_of(number, max(size - len(html), 20))


def _attachments(number: int, traffic: Traffic) -> tuple[Attachment, ...]:
    if not _is_chosen(number, traffic.attachment_share):
        return ()
    content = random.Random(number).randbytes(traffic.attachment_bytes)  # noqa: S311 - no secret
    return (Attachment(content, f"invoice-{number}.pdf", "application/pdf"),)


def _is_chosen(number: int, share: float) -> bool:
    """Whether the message belongs to the share: evenly spread, the same ones every run."""
    return int((number + 1) * share) > int(number * share)
