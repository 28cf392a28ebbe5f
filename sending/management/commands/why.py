"""`manage.py why`: why does it wait, from the machine itself."""

import uuid
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection, transaction

from relay_project.db.ids import MAX_ID, id_floor, id_of_uuid, id_soon, id_time
from relay_project.mail.address import InvalidAddress, parse_mailbox
from sending.backlog.why import why
from sending.explain import Reason, clock
from sending.journey import recipients_of
from sending.models import WAITING_STATUSES, Recipient, Send

MOST = 20  # recipients of one address
SEARCH_SECONDS = 20  # addresses have no index of their own


class Command(BaseCommand):
    help = "Say why recipients wait, and until when, or how they ended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        parser.add_argument("subject", metavar="SEND_OR_RECIPIENT_OR_ADDRESS", help="uuid or id of a send, id, address")
        parser.add_argument("--days", type=int, default=2, help="how far back to look for an address. Default: 2")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a paragraph for each recipient."""
        if not 1 <= options["days"] <= 3650:
            raise CommandError("--days must be from 1 to 3650.")
        now = datetime.now(UTC)
        people = _find(options["subject"], now - timedelta(days=options["days"]))
        if not people:
            raise CommandError(f"No send and no recipient is known as {options['subject']!r}.")
        for send_id in sorted({person.send_id for person in people}):
            send = Send.objects.filter(pk=send_id).first()
            if send is None:
                raise CommandError(f"The send {send_id} is gone.")
            mine = [person for person in people if person.send_id == send_id]
            reasons = why(send, mine, now)
            self.stdout.write(f"send {send.uuid}  accepted {clock(id_time(send.pk), now)}  from {send.from_address}")
            for person in mine:
                self.stdout.write(_paragraph(person, reasons[person.pk], now))


def _find(subject: str, since: datetime) -> Sequence[Recipient]:
    """The recipients that are meant."""
    if "@" in subject:
        return _of_address(subject, since)
    if subject.isascii() and subject.isdigit():
        number = min(int(subject), MAX_ID)
        return recipients_of(number) or list(Recipient.objects.filter(pk=number))
    try:
        wanted = uuid.UUID(subject)
    except ValueError:
        raise CommandError(f"{subject!r} is neither a uuid, an id nor an address.") from None
    send_id = id_of_uuid(wanted)
    is_known = send_id is not None and Send.objects.filter(pk=send_id, uuid=wanted).exists()
    return recipients_of(send_id) if send_id is not None and is_known else []


def _of_address(address: str, since: datetime) -> Sequence[Recipient]:
    """Those that wait, however old; else the latest that do not."""
    try:
        wanted = parse_mailbox(address).address
    except InvalidAddress as error:
        raise CommandError(f"{address!r} is {error}.") from None
    rows = Recipient.objects.filter(address=wanted, id__lt=id_soon()).order_by("-id")
    waiting = rows.filter(status__in=[status.value for status in WAITING_STATUSES])
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {SEARCH_SECONDS * 1000}")
            return list(waiting[:MOST]) or list(rows.filter(id__gte=id_floor(since))[:MOST])
    except OperationalError:
        text = f"Looking for {wanted} takes longer than {SEARCH_SECONDS} s: give the uuid of its send, or fewer --days."
        raise CommandError(text) from None


def _paragraph(person: Recipient, reason: Reason, now: datetime) -> str:
    lines = [f"  {person.address}  {person.status}  recipient {person.pk}", f"    {reason.text}"]
    if reason.detail:
        lines.append(f"    {reason.detail}")
    if reason.next_at is not None:
        lines.append(f"    Next: {clock(reason.next_at, now)}.")
    return "\n".join(lines)
