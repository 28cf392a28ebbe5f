"""Finding suppressions: newest first, by what the index of owners or that of trigrams gives."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from sending.models import Suppression


@dataclass(frozen=True, slots=True)
class SuppressionFilter:
    """What to look for; None: no matter. `email_text` is a substring, `list_name` a list's key ("": the whole project's)."""

    email_text: str | None = None
    reason: str | None = None
    list_name: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing but the project decides."""
        return self == SuppressionFilter()


def of_owner(project_id: int | None) -> QuerySet[Suppression]:
    """All rows of a project, those of its lists among them; for None those of the installation."""
    if project_id is None:
        return Suppression.objects.filter(project=None, list_project=None)
    return Suppression.objects.alias(owner=Coalesce("project_id", "list_project_id")).filter(owner=project_id)


def standing_rows(project_id: int | None, now: datetime) -> QuerySet[Suppression]:
    """Those that suppress something now."""
    return of_owner(project_id).filter(Q(expires_at=None) | Q(expires_at__gt=now))


def find_suppressions(
    project_id: int | None,
    wanted: SuppressionFilter,
    now: datetime,
    limit: int,
    offset: int = 0,
    before_id: int | None = None,
) -> list[Suppression]:
    """A page, the newest first; rows whose time is over are left out, as they suppress nothing."""
    rows = matching(project_id, wanted, now)
    if before_id is not None:
        rows = rows.filter(pk__lt=before_id)
    return list(rows.order_by("-pk")[offset : offset + limit])


def matching(project_id: int | None, wanted: SuppressionFilter, now: datetime) -> QuerySet[Suppression]:
    """The rows that fit, in no order."""
    rows = standing_rows(project_id, now)
    if wanted.email_text:
        rows = rows.filter(email__contains=folded(wanted.email_text))
    if wanted.reason:
        rows = rows.filter(reason=wanted.reason)
    if wanted.list_name:
        rows = rows.filter(list_project_id=project_id, list=wanted.list_name)
    elif wanted.list_name == "":
        rows = rows.filter(list=None)
    return rows


def lists_of(project_id: int) -> list[str]:
    """The lists that somebody is suppressed in, by name; one step in the index for each, however many rows there are."""
    names: list[str] = []
    while len(names) < MAX_LISTS:
        rows = Suppression.objects.filter(list_project_id=project_id, list__gt=names[-1] if names else "")
        name = rows.order_by("list").values_list("list", flat=True).first()
        if name is None:
            break
        names.append(name)
    return names


MAX_LISTS = 100  # offered as a choice; others can be typed into the address


def folded(text: str) -> str:
    """A piece of an address as addresses are kept."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())
