"""The MX record of a receiving domain: what to publish, and whether DNS leads its mail here."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from dns.rdatatype import MX

from relay_project.mail.text import clean
from relay_project.net.resolver import Answer, LookupFailed, NameNotFound, look_up_all, mx_hosts
from sending.models import ReceivingDomain

PREFERENCE = 10
MAX_MESSAGE = 512  # characters, the column's
MAX_FOUND = 5  # hosts that are named


@dataclass(frozen=True, slots=True)
class MxAdvice:
    """The record to publish."""

    host: str
    value: str


def advice(row: ReceivingDomain) -> MxAdvice:
    """The record; DNS is not asked."""
    return MxAdvice(row.domain, f"{PREFERENCE} {settings.MX_HOST}.")


def check_mx(row: ReceivingDomain, now: datetime) -> ReceivingDomain:
    """Ask DNS and write down what it says; outside of any transaction. A resolver that fails changes nothing (lesson C21)."""
    own, ours = look_up_all([(row.domain, MX), (settings.INSTANCE_DOMAIN, MX)], settings.DNS_RESOLVERS or None)
    if isinstance(own, LookupFailed) and not isinstance(own, NameNotFound):
        return row
    row.mx_checked_at, row.mx_error_message = now, clean(_trouble(row.domain, own, ours), MAX_MESSAGE)
    ReceivingDomain.objects.filter(pk=row.pk).update(
        mx_checked_at=row.mx_checked_at, mx_error_message=row.mx_error_message
    )
    return row


def _trouble(domain: str, own: Answer | LookupFailed, ours: Answer | LookupFailed) -> str:
    """What is wrong, in words; empty: the first MX is one of ours."""
    hosts = mx_hosts(own) if isinstance(own, Answer) else []
    here = {settings.MX_HOST, *(mx_hosts(ours) if isinstance(ours, Answer) else [])}
    if not hosts:
        return f"{domain} has no MX record."
    if hosts[0] in here:
        return ""
    if here.intersection(hosts):
        return f"The MX {hosts[0]} comes before ours, so mail goes there first."
    return f"The MX leads elsewhere: {', '.join(hosts[:MAX_FOUND])}."
