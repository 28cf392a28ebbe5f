"""What a mail would meet: the rules of accept(), all of them, then its content, its recipients and DNS.

Nothing is written and nothing is counted as sent. No transaction is open while DNS is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.conf import settings
from django.db import connection

from ips.carriers import carriers_of
from projects.dkim_keys import dkim_host, public_value
from projects.limits import message_bytes, recipients_per_send
from projects.models import DkimKey, DkimKeyState, Domain, Project, ReturnPathStatus
from queues.choose import queue_for
from relay_project.db.ids import id_floor
from relay_project.mail.headers import HeaderInjection
from sending.accept import rules, store
from sending.accept.request import Refused, RequestedRecipient, SendRequest
from sending.content import StoredMessage, compose_stored, readable
from sending.models import Priority
from sending.preflight.content import Look, check_content
from sending.preflight.dns import Sender, check_dns
from sending.preflight.finding import Finding, Level, error, info, ok
from sending.suppress import suppressed_among

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Report:
    """`accepted`: whether POST /sends would take it. `size_bytes` before signing, None where it cannot be composed."""

    accepted: bool
    size_bytes: int | None
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Level:
        """The gravest level found."""
        order = list(Level)
        return max((finding.level for finding in self.findings), key=order.index, default=Level.OK)


def check_message(project: Project, request: SendRequest, now: datetime) -> Report:
    """Look at everything. About five seconds at most, nearly all of them DNS's."""
    found: list[Finding] = []
    recipients = _tried(found, lambda: rules.check_recipients(request, recipients_per_send(project))) or []
    _tried(found, lambda: rules.check_project(project))
    _tried(found, lambda: rules.check_schedule(request, now))
    _tried(found, lambda: rules.check_texts(request))
    priority = _tried(found, lambda: rules.check_priority(project, request))
    domain = _tried(found, lambda: rules.check_sender(project, request), check="domain")
    _tried(found, lambda: rules.check_list_unsubscribe(request, recipients))
    stored = _stored(request, recipients, now) if domain is not None and recipients else None
    size = _size(project, stored, found) if stored is not None else None
    accepted = not found
    if domain is not None:
        found.append(ok("domain", f"{domain.domain} may send (status: {domain.status})."))
    found += _suppressed(project, recipients, request.list)
    found += check_content(_look(request, stored, priority, size))
    if domain is not None:
        domains = [recipient.address.rpartition("@")[2] for recipient in recipients]
        found += check_dns(_sender(project, domain, now), domains, settings.SIMULATOR_DOMAIN)
    return Report(accepted, size, tuple(found))


def _tried(found: list[Finding], rule: Callable[[], Result], check: str = "body") -> Result | None:
    """A rule's result; what it refuses is noted."""
    try:
        return rule()
    except Refused as refused:
        found.append(error(check, refused.message, refused.field))
        return None


def _stored(request: SendRequest, recipients: Sequence[RequestedRecipient], now: datetime) -> StoredMessage:
    """As it would be kept; the id is one of this moment that nobody has."""
    address = request.from_.address
    return store.stored_form(request, recipients, address, id_floor(now), now)


def _size(project: Project, stored: StoredMessage, found: list[Finding]) -> int | None:
    try:
        size = len(compose_stored(stored))
    except HeaderInjection as wrong:
        found.append(error("body", str(wrong), "headers"))
        return None
    _tried(found, lambda: rules.check_size(size, message_bytes(project)), check="size")
    return size


def _look(request: SendRequest, stored: StoredMessage | None, priority: Priority | None, size: int | None) -> Look:
    shown = stored if stored is None else readable(stored)
    headers = {name.lower(): value for name, value in (request.headers if shown is None else shown.headers)}
    return Look(
        subject=request.subject or "",
        html=request.body_html if shown is None else shown.body_html,
        text=request.body_text if shown is None else shown.body_text,
        header_names=frozenset(headers),
        header_one_click="one-click" in headers.get("list-unsubscribe-post", "").lower(),
        is_bulk=priority is Priority.BULK,
        has_link=request.list_unsubscribe is not None,
        size_bytes=size,
    )


def _suppressed(project: Project, recipients: Sequence[RequestedRecipient], list_name: str | None) -> list[Finding]:
    addresses = [recipient.address for recipient in recipients]
    if not addresses:
        return []
    with connection.cursor() as cursor:
        suppressed = suppressed_among(cursor, project.pk, addresses, list_name)
    if not suppressed:
        return [ok("suppression", "No recipient is suppressed.")]
    message = "{} is suppressed: nothing is sent there."
    types = {recipient.address: recipient.type.value for recipient in recipients}
    return [info("suppression", message.format(address), types[address]) for address in sorted(suppressed)]


def _sender(project: Project, domain: Domain, now: datetime) -> Sender:
    keys = DkimKey.objects.filter(domain=domain, state=DkimKeyState.ACTIVE).order_by("-is_current", "pk")
    own = domain.return_path if domain.return_path_status == ReturnPathStatus.ACTIVE else None
    carriers = carriers_of(queue_for(project).pk, now)
    return Sender(
        domain.domain,
        tuple((dkim_host(key), public_value(key)) for key in keys),
        own or settings.INSTANCE_DOMAIN,
        tuple(carrier.address for carrier in carriers if carrier.is_usable),
    )
