"""Inviting people by mail, whether they have an account or not; nobody learns from it whether they do.

The link is a secret that only the mail carries, neither the API nor a page shows it. It works once and for a while, and
only as long as whoever made it could still make it: the invitations of somebody who was removed open nothing.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import User
from projects.access import Caller, check_grant, label_of, record_by
from projects.models import Invitation, Membership, Project
from projects.scopes import Scope, sort_scopes
from relay_project.db import rates
from relay_project.db.rates import Rate
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.text import clean
from relay_project.web.errors import ApiError, violation

TOKEN_BYTES = 32  # random octets: beyond guessing, so a plain SHA-256 is a good enough hash
MOST_OPEN = 100  # invitations of a project that wait for an answer
KEPT = timedelta(days=30)  # invitations that were answered or ran out, for whoever reads the audit log
MAX_SHOWN = 60  # characters of a name in the mail: room for names, hardly any for a stranger's message
# Mails that somebody may cause to strangers: a project in an hour, and to one address, of all projects, in a day.
MAILS_PER_PROJECT = Rate("invitation project", 50, 3600)
MAILS_PER_ADDRESS = Rate("invitation address", 5, 86_400)

FULL = f"At most {MOST_OPEN} invitations of a project may be open."
INVITED = "This address is invited already. Send the invitation again instead."
TOO_MANY = "Too many invitations. Please try again later."
NOT_SENT = "The invitation is kept, but its mail could not be sent. Please send it again later."

log = structlog.get_logger(__name__)


class NotOpen(LookupError):
    """No open invitation has this link: used, withdrawn, run out, or made by somebody who may no longer."""


class AlreadyMember(ValueError):
    """Whoever opens the link belongs to the project already."""


def open_invitations(project: Project) -> QuerySet[Invitation]:
    """Those that wait for an answer, also when they have run out: they can be sent again."""
    return Invitation.objects.filter(project=project, accepted_at=None).order_by("pk")


def invite(
    project: Project, email: str, scopes: Sequence[str], now: datetime, caller: Caller | None = None
) -> Invitation:
    """Invite an address by mail; raises Violations and ApiError 400, 403, 429 and 503. Call it outside a transaction."""
    address = _read_address(email)
    check_grant(scopes, caller)
    _count_mail(project, address, now)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            if open_invitations(project).count() >= MOST_OPEN:
                raise ApiError(400, FULL)
            invitation = Invitation.objects.create(
                project=project,
                email=address,
                scopes=sort_scopes(scopes),
                token_hash=_hash(token),
                invited_by=caller.user if caller else None,
                invited_by_key=caller.api_key if caller else None,
                invited_by_label=label_of(caller)[:255],
                expires_at=_expiry(now),
            )
            record_by(caller, "invitation.created", invitation, project, email=address, scopes=invitation.scopes)
    except IntegrityError:
        raise ApiError(400, INVITED) from None
    return _send(invitation, token, now)


def send_again(invitation: Invitation, now: datetime, caller: Caller | None = None) -> Invitation:
    """A new link and a new mail; the old link ends. Raises ApiError 403, 404, 429 and 503."""
    check_grant(invitation.scopes, caller)
    _count_mail(invitation.project, invitation.email, now)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with transaction.atomic():
        renewed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None).update(
            token_hash=_hash(token),
            expires_at=_expiry(now),
            sent_at=None,
            invited_by=caller.user if caller else None,
            invited_by_key=caller.api_key if caller else None,
            invited_by_label=label_of(caller)[:255],
        )
        if not renewed:
            raise ApiError(404, "Entity not found")
        record_by(caller, "invitation.sent_again", invitation, invitation.project, email=invitation.email)
    invitation.refresh_from_db()
    return _send(invitation, token, now)


def withdraw(invitation: Invitation, caller: Caller | None = None) -> None:
    """The link opens nothing from now on."""
    with transaction.atomic():
        record_by(caller, "invitation.withdrawn", invitation, invitation.project, email=invitation.email)
        invitation.delete()


def find_open(token: str, now: datetime) -> Invitation:
    """The invitation of a link, to be shown and accepted; raises NotOpen."""
    found = Invitation.objects.select_related("project", "invited_by", "invited_by_key")
    invitation = found.filter(token_hash=_hash(token), accepted_at=None, expires_at__gt=now).first()
    if invitation is None or not _still_given(invitation):
        raise NotOpen
    return invitation


def accept(token: str, user: User, now: datetime, address: str = "") -> Membership:
    """Whoever signed in through the link belongs to the project; raises NotOpen and AlreadyMember.

    One UPDATE on the row's own columns decides, so that of two uses at once only one passes.
    """
    with transaction.atomic():
        invitation = find_open(token, now)
        used = Invitation.objects.filter(pk=invitation.pk, token_hash=_hash(token), accepted_at=None).update(
            accepted_at=now, accepted_by=user
        )
        if not used or not user.is_active:
            raise NotOpen
        try:
            with transaction.atomic():
                membership = Membership.objects.create(
                    project=invitation.project, user=user, scopes=sort_scopes(invitation.scopes)
                )
        except IntegrityError:
            raise AlreadyMember from None
        caller = Caller(frozenset(), invitation.project, user=user, address=address)
        detail = {"email": invitation.email, "scopes": membership.scopes, "invited_by": invitation.invited_by_label}
        record_by(caller, "invitation.accepted", invitation, invitation.project, **detail)
    return membership


def sweep_invitations(now: datetime) -> int:
    """Delete invitations that ended long ago; returns how many."""
    return Invitation.objects.filter(expires_at__lt=now - KEPT).delete()[0]


def _still_given(invitation: Invitation) -> bool:
    """Whether whoever made the invitation may still give these scopes away."""
    if invitation.invited_by is not None:
        if not invitation.invited_by.is_active:
            return False
        held = Membership.objects.filter(project=invitation.project, user=invitation.invited_by).first()
        scopes = held.scopes if held else []
    elif invitation.invited_by_key is not None:
        scopes = invitation.invited_by_key.scopes if invitation.invited_by_key.is_enabled else []
    else:
        return True
    return {Scope.PROJECT_WRITE, *invitation.scopes} <= set(scopes)


def _read_address(email: str) -> str:
    """The address in its one spelling; raises Violations."""
    try:
        return parse_mailbox(email.strip()).address
    except InvalidAddress:
        raise violation("email", "This value is not a valid email address.") from None


def _count_mail(project: Project, address: str, now: datetime) -> None:
    """Raises ApiError 429; the same for both limits, since one of them knows of other projects."""
    mailbox = hashlib.sha256(address.casefold().encode()).hexdigest()
    for rate, key in ((MAILS_PER_PROJECT, str(project.pk)), (MAILS_PER_ADDRESS, mailbox)):
        use = rates.use(rate, key, now)
        if not use.allowed:
            raise ApiError(429, TOO_MANY, headers={"Retry-After": str(use.reset_seconds)})


def _send(invitation: Invitation, token: str, now: datetime) -> Invitation:
    """Send the mail, after the commit of its link; raises ApiError 503, and the invitation stays."""
    inviter = _shown(invitation.invited_by_label) if invitation.invited_by else ""
    project = _shown(invitation.project.name)
    text = render_to_string(
        "projects/invitation.txt",
        {
            "inviter": inviter,
            "project": project,
            "product": settings.PRODUCT_NAME,
            "until": f"{invitation.expires_at:%-d %B %Y, %H:%M}",
            "link": settings.WEB_URL + reverse("invitation", args=[token]),
        },
    )
    subject = f"{inviter} invites you to {project}" if inviter else f"You are invited to {project}"
    message = EmailMessage(subject, text, to=[invitation.email])
    try:
        message.send()
    except Exception as error:
        log.error("invitation_not_sent", invitation_id=invitation.pk, exc_info=error)
        raise ApiError(503, NOT_SENT, headers={"Retry-After": "60"}) from None
    Invitation.objects.filter(pk=invitation.pk).update(sent_at=now)
    invitation.sent_at = now
    return invitation


def _shown(name: str) -> str:
    """A name that somebody chose, fit for a subject and for a stranger's eyes: one short line that is no link."""
    line = " ".join(clean(name, 500).replace("://", " ").split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1].rstrip() + "…"


def _expiry(now: datetime) -> datetime:
    return now + timedelta(days=settings.INVITATION_DAYS)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
