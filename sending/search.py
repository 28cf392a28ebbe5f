"""Finding sends: newest first, by what people remember of them. Every statement carries a range of ids."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from relay_project.db.ids import MAX_ID, SEQUENCE_BITS, hours_after, id_floor, id_soon
from sending.models import Recipient, Send, SendTag

HOUR_OF_IDS = 3_600_000 << SEQUENCE_BITS  # a send's recipients lie within an hour of ids


@dataclass(frozen=True, slots=True)
class SendFilter:
    """What to look for; None: no matter. Dates are aware, `date_to` exclusive. Text is a substring.

    `is_case_sensitive`: of addresses, as the API's contract has it; a subject never is.
    """

    status: str | None = None
    from_text: str | None = None
    to_text: str | None = None
    subject_text: str | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    is_case_sensitive: bool = False
    tag: str | None = None  # as a whole

    @property
    def address_lookup(self) -> str:
        """Django's name of the comparison; both escape LIKE's wildcards."""
        return "contains" if self.is_case_sensitive else "icontains"

    @property
    def is_empty(self) -> bool:
        """Nothing but the project decides."""
        return self == SendFilter()


def find_sends(project_id: int, wanted: SendFilter, limit: int, before_id: int | None = None) -> list[Send]:
    """At most `limit` sends of a project, newest first, with ids below `before_id`."""
    low = id_floor(wanted.date_from) if wanted.date_from else 0
    high = min(id_floor(wanted.date_to) if wanted.date_to else MAX_ID, id_soon())
    high = high if before_id is None else min(high, before_id)
    sends = Send.objects.filter(project_id=project_id, id__gte=low, id__lt=high)
    if wanted.from_text:
        sends = sends.filter(**{f"from_address__{wanted.address_lookup}": wanted.from_text})
    if wanted.subject_text:
        sends = sends.filter(subject__icontains=wanted.subject_text)
    if wanted.tag:
        tagged = SendTag.objects.filter(project_id=project_id, tag=wanted.tag, send_id__gte=low, send_id__lt=high)
        sends = sends.filter(pk__in=tagged.values("send_id"))
    if wanted.status or wanted.to_text:
        sends = sends.filter(Exists(_matching_recipients(project_id, wanted, low, high)))
    return list(sends.order_by("-id")[:limit])


def _matching_recipients(project_id: int, wanted: SendFilter, low: int, high: int) -> QuerySet[Recipient]:
    """One recipient that fits all that is asked of recipients: a status and an address belong together.

    Literal bounds prune partitions when planning, those by the send's id when running.
    """
    recipients = Recipient.objects.filter(
        project_id=project_id, id__gte=low, id__lt=min(hours_after(high, 1), MAX_ID)
    ).filter(send_id=OuterRef("pk"), id__gte=OuterRef("pk"), id__lt=OuterRef("pk") + HOUR_OF_IDS)
    if wanted.status:
        recipients = recipients.filter(status=wanted.status)
    if wanted.to_text:
        recipients = recipients.filter(**{f"address__{wanted.address_lookup}": wanted.to_text})
    return recipients


def recipients_by_send(sends: Sequence[Send]) -> dict[int, list[Recipient]]:
    """The recipients of a page of sends, in the order of their headers."""
    found: dict[int, list[Recipient]] = defaultdict(list)
    if not sends:
        return found
    ids = [send.pk for send in sends]
    rows = Recipient.objects.filter(send_id__in=ids, id__gte=min(ids), id__lt=hours_after(max(ids), 1))
    for recipient in rows.order_by("send_id", "position", "id"):
        found[recipient.send_id].append(recipient)
    return found


def counted_statuses(recipients: Iterable[Recipient]) -> list[tuple[str, int]]:
    """How many recipients stand where: (status, number), the most frequent first."""
    counts: dict[str, int] = defaultdict(int)
    for recipient in recipients:
        counts[recipient.status] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
