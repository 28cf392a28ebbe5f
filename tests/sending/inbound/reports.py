"""Mail that left, and reports about it as the parser gives them."""

from collections.abc import Sequence
from itertools import count

from django.conf import settings
from django.utils import timezone

from relay_project.db.keyring import ring
from relay_project.mail.reports.facts import Feedback, FeedbackType
from relay_project.mail.reports.model import (
    Action,
    BounceClass,
    Original,
    Report,
    ReportedRecipient,
    ReportKind,
)
from relay_project.mail.verp import make_reverse_path
from sending.accept.request import Accepted
from sending.deliver.load import Job
from sending.deliver.settle import settle
from sending.inbound.apply import Outcome, apply
from sending.inbound.correlate import Read
from sending.inbound.mail import Inbound
from sending.inbound.read import take
from sending.inbound.store import Arrived, insert
from sending.models import InboundMail, Send
from tests.sending.scene import OK, Scene, answered

_numbers = count(1)
CLASSES = {
    BounceClass.HARD: ("5.1.1", "550", "no such user", "mailbox-unknown"),
    BounceClass.SOFT: ("4.2.2", "452", "mailbox full", "mailbox-full"),
    BounceClass.INFRASTRUCTURE: ("5.7.1", "554", "blocked using zen.spamhaus.org", "guard-blocklist"),
    BounceClass.CONTENT: ("5.7.1", "550", "looks like spam", ""),
    BounceClass.UNKNOWN: ("5.0.0", "", "", ""),
}


def delivered(scene: Scene, *addresses: str, **fields: object) -> tuple[Accepted, Job]:
    """A mail that the next hop took; its recipients share a domain."""
    accepted = scene.send(*addresses, **fields)
    job = scene.job()
    settle([answered(job, OK, site="one")], timezone.now())
    return accepted, job


def token(job: Job, keys: Sequence[bytes] | None = None) -> str:
    return make_reverse_path(job.send_id, job.attempt_id, settings.INSTANCE_DOMAIN, keys or ring("return-path"))


def message_id(accepted: Accepted) -> str:
    send = Send.objects.get(pk=accepted.send_id)
    return f"{send.uuid}@{send.from_address.partition('@')[2]}"


def failed(
    address: str, bounce_class: BounceClass = BounceClass.HARD, action: Action = Action.FAILED
) -> ReportedRecipient:
    status, code, reason, rule = CLASSES[bounce_class]
    return ReportedRecipient(
        address, status, code, bounce_class, reason, action, rule, suppress=bounce_class is BounceClass.HARD
    )


def bounce(*recipients: ReportedRecipient | str, original: Original | None = None) -> Report:
    told = tuple(failed(one) if isinstance(one, str) else one for one in recipients)
    return Report(ReportKind.BOUNCE, told, original or Original())


def complaint(*addresses: str, kind: FeedbackType = FeedbackType.ABUSE, original: Original | None = None) -> Report:
    told = tuple(ReportedRecipient(address, reason="abuse", action=Action.DELIVERED) for address in addresses)
    return Report(
        ReportKind.COMPLAINT, told, original or Original(), feedback=Feedback(kind, "Yahoo!-Mail-Feedback/2.0")
    )


def came(*recipients: str, octets: bytes = b"x", mail_from: str = "") -> int:
    """A mail that was stored; its id."""
    [mail_id] = insert([Arrived("192.0.2.99", "mx.example", "", mail_from, recipients, octets)])
    return mail_id


def read(report: Report, *recipients: str, octets: bytes = b"x") -> Outcome | None:
    """Store a mail that is this report, and apply it; None when it is to be looked at again."""
    mail_id = came(*recipients, octets=octets)
    taken, _ = take(100, timezone.now())
    mail = Inbound(mail_id, "", recipients, octets, "192.0.2.99", tries=taken[mail_id])
    outcomes = apply([Read(mail, report)], timezone.now())
    return outcomes[0] if outcomes else None


def stored(outcome: Outcome) -> InboundMail:
    return InboundMail.objects.get(pk=outcome.mail_id)
