"""A project's mailboxes and their tokens: making, changing, deleting them."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from projects.access import Caller, record_by
from projects.api_keys import hash_token
from projects.models import Project
from relay_project.web.errors import ApiError, Violation, Violations, violation
from webhooks.feed import last_position
from webhooks.mailbox.entry import PREFIX
from webhooks.models.mailbox import MAX_NAME, Mailbox, MailboxEvent, MailboxItem, MailboxToken, TokenKind
from webhooks.options import check_domains, check_events, check_tags

MAX_DESCRIPTION = 1024  # characters
MAX_TOKENS = 20  # of a mailbox
TOKEN_BYTES = 24

TOO_MANY = "You have reached the maximum number of mailboxes for this project."
TOO_MANY_TOKENS = "You have reached the maximum number of tokens for this mailbox."
TAKEN = "This name is taken."
BAD_NAME = (
    "A name has 1 to 255 characters: letters, digits, any of . _ ~ : @ ! $ & ' ( ) * + , ; = - and DIDs' escapes such as "
    "%3A, not . or .. alone"
)

# What a path segment may hold (RFC 3986 §3.3), and letters. A DID's own %3A is part of its name; what a decoder in between
# would take for a slash, a NUL or the like is not.
_NAME = re.compile(r"(?:[\w.~:@!$&'()*+,;=-]|%(?!2[Ff5]|5[Cc]|[01])[2-7][0-9A-Fa-f])+")


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
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or name in (".", ".."):
        raise violation("name", BAD_NAME)
    values = _checked(change, project)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            if mailboxes_of(project).count() >= settings.MAX_MAILBOXES:
                raise ApiError(400, TOO_MANY)
            mailbox = Mailbox.objects.create(
                project=project,
                name=name,
                position=last_position(cursor),
                is_enabled=change.is_enabled is not False,
                **values,
            )
            record_by(caller, "mailbox.created", mailbox, project, name=name, events=list(mailbox.events))
    except IntegrityError:
        raise violation("name", TAKEN) from None
    return mailbox


def update_mailbox(mailbox: Mailbox, change: MailboxChange, caller: Caller | None = None) -> Mailbox:
    """The mailbox after a partial update. One that had no events begins with those that come. Raises ApiError 404."""
    values = _checked(change, mailbox.project)
    with transaction.atomic(), connection.cursor() as cursor:
        locked = _locked(mailbox)
        changed = {name: value for name, value in values.items() if getattr(locked, name) != value}
        begins = bool(changed.get("events")) and not locked.events
        for name, value in changed.items():
            setattr(locked, name, value)
        if begins:
            locked.position = last_position(cursor)
        if changed:
            locked.save(update_fields=[*changed, *(["position"] if begins else [])])
            record_by(caller, "mailbox.changed", locked, locked.project, **changed)
        if change.is_enabled is not None:
            switch_mailbox(locked, change.is_enabled, caller)
            locked.is_enabled = change.is_enabled
    return locked


def switch_mailbox(mailbox: Mailbox, is_enabled: bool, caller: Caller | None = None, **detail: Any) -> bool:
    """Let people deposit and fetch, or nobody; False when it was so already. Raises ApiError 404 when it is gone."""
    with transaction.atomic():
        locked = _locked(mailbox)
        if locked.is_enabled == is_enabled:
            return False
        Mailbox.objects.filter(pk=locked.pk).update(is_enabled=is_enabled)
        action = "mailbox.enabled" if is_enabled else "mailbox.disabled"
        record_by(caller, action, locked, locked.project, **detail)
    return True


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


def _locked(mailbox: Mailbox) -> Mailbox:
    """The row, locked until the transaction's end; raises ApiError 404 when it is gone."""
    locked = Mailbox.objects.select_for_update(of=("self",)).select_related("project").filter(pk=mailbox.pk).first()
    if locked is None:
        raise ApiError(404, "Entity not found")
    return locked


def _checked(change: MailboxChange, project: Project) -> dict[str, Any]:
    """The columns that an update sets; raises Violations that name every field."""
    values: dict[str, Any] = {}
    wrong: list[Violation] = []
    for name, check in _CHECKS.items():
        given = getattr(change, name)
        try:
            if given is not None:
                values[name] = check(given, project)
        except Violations as refusal:
            wrong += refusal.violations
    if wrong:
        raise Violations(wrong)
    return values


_CHECKS: Mapping[str, Callable[[Any, Project], Any]] = {
    "description": lambda text, _: text,
    "events": lambda kinds, project: check_events(kinds, project, may_be_none=True),
    "tags": lambda tags, _: check_tags(tags),
    "domains": lambda domains, _: check_domains(domains),
}
