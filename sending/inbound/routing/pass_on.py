"""A received mail that is to be passed on: may it, and as what; then a send of its project, in the examiner's transaction.

`prepare` runs outside of any transaction: it asks the meters, and signs. `settle` accepts the mail by the one door, with the
row that says so. Nothing is bounced to anybody for a mail that is not passed on: its project sees why.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings

from projects.life import stop_of
from projects.limits import limits_of, sends_meter
from projects.models import Domain, Project
from projects.models.domain import MAY_SEND
from relay_project.db.ids import hours_after
from relay_project.db.rates import Rate, spend, use
from relay_project.mail.mime import NamedAddress
from relay_project.mail.raw import RawMessage
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from sending.accept.accept import accept_forward
from sending.accept.request import Refused, RequestedRecipient, SendRequest
from sending.content import signers_for
from sending.inbound.mail import Inbound
from sending.inbound.routing.forward import (
    IN_WORDS,
    NotForwarded,
    first_rsa,
    goes_in_a_circle,
    leaving,
    may_go_back,
    sender_of,
    trace_fields,
)
from sending.inbound.routing.match import names_above
from sending.inbound.routing.verify import Findings
from sending.models import ReceivedMail, RecipientType, Send

PATIENCE = timedelta(days=1)  # that a mail waits for its project's limits
LATEST_HOURS = 25  # after it came at the latest a mail is passed on: PATIENCE, and a lease
LONGEST_WAIT = timedelta(minutes=5)
MAX_NAME = 998  # characters, the column's
MAX_ERROR = 200  # characters, the column's
BACK_TO_ONE = Rate("forward-bounces-to", 20, 3600)  # reports that go back to one address, by project
BACK_OF_ONE = Rate("forward-bounces-of", 10, 86_400)  # reports about one mail: it has no more recipients

PASSED_ON = Counter(
    "relay_inbound_forwarded_total", "Mails that were to be passed on, by what became of them.", ["outcome"]
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Leaving:
    """A mail that may be passed on."""

    project: Project
    domain: Domain
    request: SendRequest


Plan = Leaving | NotForwarded


def prepare(row: ReceivedMail, mail: Inbound, findings: Findings, now: datetime) -> Plan | timedelta:
    """What is to leave, why it may not, or after how long to ask again. Call it outside of any transaction."""
    if circle := goes_in_a_circle(mail):
        return circle
    project = Project.objects.filter(pk=row.project_id).first()
    if project is None or stop_of(project):
        return NotForwarded.PROJECT_STOPPED
    domain = _domain_of(row)
    if domain is None:
        return NotForwarded.DOMAIN_STOPPED
    limits = limits_of(project)
    if len(mail.octets) > limits.message_bytes:
        return NotForwarded.TOO_LARGE
    spent = spend(sends_meter(project), 1, limits.sends)
    if spent.refused is not None:
        if now - mail.received_at > PATIENCE:
            return NotForwarded.LIMIT
        return min(timedelta(seconds=spent.reset_seconds(spent.refused)), LONGEST_WAIT)
    if row.returns_send_id is not None and (trouble := _backscatter(row, row.returns_send_id, now)):
        return trouble
    return Leaving(project, domain, _request(row, mail, findings, domain, now))


def settle(row: ReceivedMail, plan: Plan, now: datetime) -> None:
    """Accept it, and put down on the row what became of it; in the caller's transaction, who saves the row."""
    if isinstance(plan, NotForwarded):
        row.forward_error = IN_WORDS[plan]
        return
    try:
        row.forward_send_id = accept_forward(plan.project, plan.domain, plan.request, now).send_id
    except Refused as refusal:
        row.forward_error = clean(refusal.message, MAX_ERROR)


def tell(row: ReceivedMail, plan: Plan) -> None:
    """To the metrics and the log, after the commit."""
    if isinstance(plan, NotForwarded):
        outcome = plan.value
    elif row.forward_send_id is None:
        outcome = NotForwarded.REFUSED.value
    else:
        outcome = "returned" if row.returns_send_id else "forwarded"
    PASSED_ON.labels(outcome).inc()
    say = log.info if row.forward_send_id else log.warning
    say(
        "inbound.forwarded" if row.forward_send_id else "inbound.not_forwarded",
        received=row.pk,
        project_id=row.project_id,
        send=row.forward_send_id,
        outcome=outcome,
    )


def _domain_of(row: ReceivedMail) -> Domain | None:
    """The domain of the project's that lets it receive this; of a report that goes back, that of the mail it is about."""
    allowed = Domain.objects.filter(project_id=row.project_id, status__in=MAY_SEND)
    if row.returns_send_id is not None:
        sends = Send.objects.filter(pk=row.returns_send_id, project_id=row.project_id)
        return allowed.filter(pk__in=list(sends.values_list("domain_id", flat=True))).first()
    names = names_above(row.recipients[0].rpartition("@")[2].lower())
    found = {domain.domain: domain for domain in allowed.filter(domain__in=names)}
    return next((found[name] for name in names if name in found), None)


def _backscatter(row: ReceivedMail, send_id: int, now: datetime) -> NotForwarded | None:
    """Why a report does not go back: nobody is to get bounces of mail that somebody else sent in their name."""
    about = ReceivedMail.objects.filter(
        forward_send_id=send_id, project_id=row.project_id, pk__gt=hours_after(send_id, -LATEST_HOURS), pk__lte=send_id
    ).first()
    if about is None or not may_go_back(about.authentication):
        return NotForwarded.UNPROVEN
    [sender] = row.forward_to or [""]
    uses = [use(BACK_OF_ONE, str(send_id), now), use(BACK_TO_ONE, f"{row.project_id} {sender.lower()}", now)]
    return None if all(found.allowed for found in uses) else NotForwarded.TOO_MANY_BOUNCES


def _request(row: ReceivedMail, mail: Inbound, findings: Findings, domain: Domain, now: datetime) -> SendRequest:
    message = findings.message
    hostname = settings.SMTP_HOSTNAME
    if row.returns_send_id is not None:
        octets = trace_fields(mail, hostname) + mail.octets
    else:
        signer = first_rsa(signers_for(domain.pk, settings.INSTANCE_DOMAIN))
        octets = leaving(mail, findings.authentication, findings.chain, signer, hostname, now)
    name = _line(message.from_[0].name) if message.from_ else ""
    from_ = NamedAddress(sender_of(mail, row.from_address, domain.domain), name or None)
    return SendRequest(
        from_,
        tuple(RequestedRecipient(RecipientType.BCC, address) for address in row.forward_to or ()),
        subject=_line(message.subject) or None,
        raw=RawMessage(octets, from_, (), (), (), message.subject, message.message_id or None, frozenset()),
        forwarded_from=mail.mail_from,
    )


def _line(text: str) -> str:
    return clean(" ".join(text.split()), MAX_NAME)
