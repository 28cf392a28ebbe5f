"""`manage.py send_test ADDRESS`: send one mail through the product and print its journey as it happens."""

import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from projects.models import Domain, Project
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.mime import NamedAddress
from sending.accept.accept import accept
from sending.accept.request import Refused, RequestedRecipient, SendRequest
from sending.journey import Journey, Step, StepKind, read_journey
from sending.models import RecipientStatus, RecipientType, Send

LOOK_SECONDS = 0.1


class Command(BaseCommand):
    """Exit status 0 when every recipient's server accepted the mail, 1 otherwise."""

    help = "Send one test mail and print its journey: accepted, queued, signed, each SMTP reply, the result."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Recipients, sender, patience."""
        parser.add_argument("to", nargs="+", metavar="ADDRESS", help="recipient")
        parser.add_argument(
            "--from", dest="sender", default="", metavar="ADDRESS", help="default: relay@INSTANCE_DOMAIN"
        )
        parser.add_argument("--subject", default="Test mail", help="default: %(default)s")
        parser.add_argument(
            "--wait", type=float, default=60, metavar="SECONDS", help="how long to follow it (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Accept, then follow."""
        try:
            project, sender = _sender(options["sender"])
            accepted = accept(project, _request(sender, options["to"], options["subject"]), datetime.now(UTC))
        except (InvalidAddress, Refused) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Message-ID <{accepted.message_id}>, send {accepted.send_id}")
        journey = self._follow(Send.objects.get(pk=accepted.send_id), options["wait"])
        if not journey.is_final:
            raise CommandError(f"Not final after {options['wait']:g} s. {_sentences(journey)}")
        if any(story.recipient.status != RecipientStatus.ACCEPTED for story in journey.recipients):
            raise CommandError(_sentences(journey))

    def _follow(self, send: Send, patience: float) -> Journey:
        """Print what is new whenever an attempt has been recorded, until all is final or the time is over."""
        give_up = time.monotonic() + patience
        printed: set[tuple[datetime, str, str]] = set()
        attempts = -1
        while True:
            journey = read_journey(send, datetime.now(UTC))
            is_over = journey.is_final or time.monotonic() > give_up
            if is_over or len(journey.attempts) != attempts:
                attempts = len(journey.attempts)
                for step in journey.steps:
                    key = (step.at, step.title, step.detail)
                    if key not in printed and (step.kind is not StepKind.NEXT or attempts):
                        printed.add(key)
                        self._print(step, journey.accepted_at)
            if is_over:
                return journey
            time.sleep(LOOK_SECONDS)

    def _print(self, step: Step, start: datetime) -> None:
        milliseconds = (step.at - start).total_seconds() * 1000
        self.stdout.write(f"{milliseconds:9.0f} ms  {step.title}{'  ' + step.detail if step.detail else ''}")
        sys.stdout.flush()


def _sender(address: str) -> tuple[Project, str]:
    """The project whose registered domain the address has; without one the system project's own address."""
    ensure_queues()
    if not address:
        return ensure_instance().project, f"relay@{settings.INSTANCE_DOMAIN}"
    domain = (
        Domain.objects.filter(domain=parse_mailbox(address).domain).select_related("project").order_by("id").first()
    )
    if domain is None:
        raise CommandError(f"No project has registered the domain of {address}.")
    return domain.project, address


def _request(sender: str, recipients: list[str], subject: str) -> SendRequest:
    return SendRequest(
        from_=NamedAddress(sender, settings.PRODUCT_NAME),
        recipients=tuple(
            RequestedRecipient(RecipientType.TO, parse_mailbox(address).address) for address in recipients
        ),
        subject=subject,
        body_text=f"This is a test mail of {settings.PRODUCT_NAME} at {settings.WEB_URL}.\n",
    )


def _sentences(journey: Journey) -> str:
    return " ".join(f"{story.recipient.address}: {story.sentence}" for story in journey.recipients)
