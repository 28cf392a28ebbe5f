"""A project's mailboxes and their tokens: making, changing, deleting them."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from projects.access import Caller, record_by
from projects.api_keys import hash_token
from projects.event_registry import kinds_for
from projects.models import Project
from relay_project.web.errors import ApiError, Violation, Violations, violation
from relay_project.web.fields import BLANK, NOT_A_CHOICE
from webhooks.feed import last_position
from webhooks.mailbox.entry import PREFIX
from webhooks.models.mailbox import MAX_NAME, Mailbox, MailboxEvent, MailboxItem, MailboxToken, TokenKind

MAX_DESCRIPTION = 1024  # characters
MAX_TOKENS = 20  # of a mailbox
MAX_FILTERS = 50
TOKEN_BYTES = 24

TOO_MANY = "You have reached the maximum number of mailboxes for this project."
TOO_MANY_TOKENS = "You have reached the maximum number of tokens for this mailbox."
TAKEN = "This name is taken."
BAD_NAME = (
    "A name has 1 to 255 characters: letters, digits and any of . _ ~ : @ ! $ & ' ( ) * + , ; = -, not . or .. alone"
)

_NAME = re.compile(
    rf"[\w.~:@!$&'()*+,;=-]{{1,{MAX_NAME}}}"
)  # what a path segment may hold (RFC 3986 §3.3), and letters
_DOMAIN = re.compile(r"[a-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class MailboxChange:
    """What an update says; None leaves a field as it is."""

    description: str | None = None
    events: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    domains: Sequence[str] | None = None
    is_enabled: bool | None = None


def mailboxes_of(project: Project) -> QuerySet[Mailbox]:
    """A project's mailboxes."""
    return Mailbox.objects.filter(project=project).order_by("id")


def create_mailbox(project: Project, name: str, change: MailboxChange, caller: Caller | None = None) -> Mailbox:
    """A new mailbox, told of events from now on; raises Violations and ApiError 400."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise violation("name", BAD_NAME)
    values = _checked(change, project)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            if mailboxes_of(project).count() >= settings.MAX_MAILBOXES:
                raise ApiError(400, TOO_MANY)
            mailbox = Mailbox.objects.create(project=project, name=name, position=last_position(cursor), **values)
            record_by(caller, "mailbox.created", mailbox, project, name=name, events=list(mailbox.events))
    except IntegrityError:
        raise violation("name", TAKEN) from None
    return mailbox


def update_mailbox(mailbox: Mailbox, change: MailboxChange, caller: Caller | None = None) -> Mailbox:
    """The mailbox after a partial update. One that had no events begins with those that come."""
    values = _checked(change, mailbox.project)
    with transaction.atomic(), connection.cursor() as cursor:
        locked = Mailbox.objects.select_for_update(of=("self",)).select_related("project").filter(pk=mailbox.pk).first()
        if locked is None:
            raise ApiError(404, "Entity not found")
        changed = {name: value for name, value in values.items() if getattr(locked, name) != value}
        begins = bool(changed.get("events")) and not locked.events
        for name, value in changed.items():
            setattr(locked, name, value)
        if begins:
            locked.position = last_position(cursor)
        if changed:
            locked.save(update_fields=[*changed, *(["position"] if begins else [])])
            record_by(caller, "mailbox.changed", locked, locked.project, **changed)
    return locked


def delete_mailbox(mailbox: Mailbox, caller: Caller | None = None) -> None:
    """With everything in it."""
    with transaction.atomic():
        record_by(caller, "mailbox.deleted", mailbox, mailbox.project, name=mailbox.name)
        MailboxItem.objects.filter(mailbox_id=mailbox.pk).delete()
        MailboxEvent.objects.filter(mailbox_id=mailbox.pk).delete()
        mailbox.delete()


def create_token(
    mailbox: Mailbox, kind: TokenKind, name: str, caller: Caller | None = None
) -> tuple[MailboxToken, str]:
    """A new token and its text, which is not shown again; raises ApiError 400."""
    text = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    with transaction.atomic():
        Mailbox.objects.select_for_update(of=("self",)).get(pk=mailbox.pk)
        if mailbox.tokens.count() >= MAX_TOKENS:
            raise ApiError(400, TOO_MANY_TOKENS)
        token = MailboxToken.objects.create(mailbox=mailbox, kind=kind, name=name, token_hash=hash_token(text))
        record_by(caller, "mailbox.token_created", mailbox, mailbox.project, token=token.pk, kind=str(kind), name=name)
    return token, text


def delete_token(token: MailboxToken, caller: Caller | None = None) -> None:
    """It opens nothing from the next request on."""
    with transaction.atomic():
        mailbox = token.mailbox
        record_by(caller, "mailbox.token_deleted", mailbox, mailbox.project, token=token.pk, name=token.name)
        token.delete()


def _checked(change: MailboxChange, project: Project) -> dict[str, Any]:
    """The columns that an update sets; raises Violations."""
    values: dict[str, Any] = {}
    wrong: list[Violation] = []
    if change.description is not None:
        values["description"] = change.description
    if change.is_enabled is not None:
        values["is_enabled"] = change.is_enabled
    if change.events is not None:
        known = [kind.value for kind in kinds_for(project.is_system)]
        wanted = list(change.events)
        wrong += [Violation(f"events[{at}]", NOT_A_CHOICE) for at, kind in enumerate(wanted) if kind not in known]
        values["events"] = [kind for kind in known if kind in wanted]
    if change.tags is not None:
        values["tags"] = list(dict.fromkeys(change.tags))
    if change.domains is not None:
        domains = [domain.strip().lower().rstrip(".") for domain in change.domains]
        wrong += [
            Violation(f"domains[{at}]", "This value is not a valid domain." if domain else BLANK)
            for at, domain in enumerate(domains)
            if not _DOMAIN.fullmatch(domain)
        ]
        values["domains"] = list(dict.fromkeys(domains))
    for name in ("tags", "domains"):
        if len(values.get(name, ())) > MAX_FILTERS:
            wrong.append(Violation(name, f"This collection should contain {MAX_FILTERS} elements or less."))
    if wrong:
        raise Violations(wrong)
    return values
