"""The first mail: sent through the HTTP API as a client would, and followed into the sandbox's inbox."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from relay_project.mail import dkim_check
from relay_project.net.resolver import txt_records
from relay_project.quickstart.demo import DOMAIN
from relay_project.quickstart.home import QuickstartError
from sending.journey import Journey, read_journey
from sending.models import SandboxMessage, Send

SENDER = f"hello@{DOMAIN}"
RECIPIENT = "newcomer@inbox.test"
ARRIVAL_SECONDS = 20.0  # usually under a second
LOOK_SECONDS = 0.025
MESSAGE = {
    "from": {"email": SENDER, "name": "Relay"},
    "to": [{"email": RECIPIENT, "name": "Newcomer"}],
    "subject": "Your first mail",
    "body_text": "It went through the API, the queue, DKIM, DNS and SMTP, and arrived here.\n",
    "body_html": "<p>It went through the API, the queue, DKIM, DNS and SMTP, and arrived <b>here</b>.</p>\n",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said to the client."""

    posted_at: datetime
    answered_at: datetime
    send_id: int
    message_id: str


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """One DKIM signature, judged by dkimpy from the bytes received and the key in DNS."""

    domain: str
    selector: str
    valid: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """The mail at its end."""

    answer: Answer
    journey: Journey
    message: SandboxMessage
    signatures: tuple[SignatureCheck, ...]
    checked_at: datetime

    @property
    def is_signed(self) -> bool:
        """Whether there are signatures and every one is valid."""
        return bool(self.signatures) and all(signature.valid for signature in self.signatures)


def post(base_url: str, api_key: str) -> Answer:
    """POST /api/console/sends with a Bearer key; raises QuickstartError with what the API said against it."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{base_url}/api/console/sends",
        json.dumps(MESSAGE).encode(),
        {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    posted_at = datetime.now(UTC)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            body = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        raise QuickstartError(f"The API refused the first mail with {error.code}: {said}") from error
    except (OSError, ValueError) as error:
        raise QuickstartError(f"The API did not answer the first mail: {error}.") from error
    return Answer(posted_at, datetime.now(UTC), body["id"], body["message_id"])


def follow(answer: Answer, each_look: Callable[[], None]) -> Arrival:
    """Wait until the mail is in the inbox and its result is recorded; raises QuickstartError after ARRIVAL_SECONDS."""
    send = Send.objects.select_related("project").get(pk=answer.send_id)
    give_up = time.monotonic() + ARRIVAL_SECONDS
    while True:
        each_look()
        journey = read_journey(send, datetime.now(UTC))
        message = SandboxMessage.objects.filter(project_id=send.project_id, send_id=send.pk).first()
        if message and journey.is_final:
            signatures = check_signatures(bytes(message.data))
            return Arrival(answer, journey, message, signatures, datetime.now(UTC))
        if time.monotonic() > give_up or is_refused(journey):
            raise QuickstartError(f"The first mail has not arrived: {_why(journey)}")
        time.sleep(LOOK_SECONDS)


def is_refused(journey: Journey) -> bool:
    """Whether some recipient has ended otherwise than accepted: then no mail will come."""
    return journey.is_final and any(story.recipient.status != "accepted" for story in journey.recipients)


def _why(journey: Journey) -> str:
    """Return the last thing that happened to it, and what its recipient waits for."""
    last = journey.milestones[-1]
    sentences = " ".join(story.sentence for story in journey.recipients)
    return f"{last.title} {last.detail}. {sentences}".strip()


def check_signatures(data: bytes) -> tuple[SignatureCheck, ...]:
    """Judge every DKIM signature of a mail by dkimpy, with keys from the run's DNS."""
    results = dkim_check.check_signatures(data, lambda name: txt_records(name, settings.DNS_RESOLVERS))
    return tuple(SignatureCheck(r["domain"], r["selector"], r["valid"], r["error"]) for r in results)
