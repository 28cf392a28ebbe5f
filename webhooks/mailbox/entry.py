"""Who comes to a mailbox: with one of its own tokens, or, to deposit, with an API key of its project."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.http import HttpRequest

from projects.access import ARCHIVED
from projects.api_keys import hash_token
from projects.authentication import SCHEME, caller_by_key
from projects.guesses import check_guess, note_right, note_wrong
from projects.models import Project
from projects.scopes import Scope
from relay_project.db.lookup import Remembered, RequestLookup
from relay_project.db.rates import Window, spend
from relay_project.web.errors import ApiError
from relay_project.web.rate_headers import tell_rate
from webhooks.mailbox.figures import REFUSED
from webhooks.models.mailbox import MAX_NAME, Mailbox, MailboxToken, TokenKind

PREFIX = "mbx_"  # of every token of a mailbox, so that no key is mistaken for one
NO_MAILBOX = "There is no such mailbox, or this token does not open it."  # alike: names of others are not told
DISABLED = "This mailbox is disabled."

_PROJECTS = Remembered(Project, "t.id = %s")
_BY_HASH = RequestLookup(MailboxToken, "token_hash", follow="mailbox")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who was let in, to which mailbox; `name` is what the items say they are from."""

    mailbox: Mailbox
    name: str
    subject: str  # whose calls are counted


def enter(request: HttpRequest, name: str, kind: TokenKind, now: datetime) -> Visitor:
    """Let somebody in to deposit or to receive; raises ApiError 401, 403, 404 and 429."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    token = header[len(SCHEME) :].strip() if header[: len(SCHEME)].lower() == SCHEME.lower() else ""
    if not token:
        raise ApiError(401, "A bearer token is required.", headers={"WWW-Authenticate": 'Bearer realm="mailbox"'})
    address = request.META.get("REMOTE_ADDR", "")
    if token.startswith(PREFIX):
        visitor = _by_token(token, address, name, kind, now)
    elif kind is TokenKind.DEPOSIT:
        visitor = _by_key(token, address, name)
    else:
        check_guess(address, hash_token(token))
        note_wrong(address, now)
        raise ApiError(403, "To receive, a token of the mailbox is required.")
    if not visitor.mailbox.is_enabled:
        raise ApiError(403, DISABLED)
    _count(request, visitor)
    return visitor


def _by_token(token: str, address: str, name: str, kind: TokenKind, now: datetime) -> Visitor:
    token_hash = hash_token(token)
    check_guess(address, token_hash)
    found = _BY_HASH.of_request(token_hash)
    if found is None:
        note_wrong(address, now)
        raise ApiError(401, "Invalid token.", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    note_right(token_hash)
    if found.mailbox.name != name:
        raise ApiError(404, NO_MAILBOX)
    if found.kind != kind:
        raise ApiError(403, f"This token may not {kind.value}.")
    project = _PROJECTS.first(found.mailbox.project_id)
    if project is None or project.archived_at is not None:
        raise ApiError(403, ARCHIVED)
    return Visitor(found.mailbox, found.name or f"token {found.pk}", f"mailbox-token:{found.pk}")


def _by_key(token: str, address: str, name: str) -> Visitor:
    caller = caller_by_key(token, address)
    assert caller.api_key is not None
    is_name = 0 < len(name) <= MAX_NAME and "\0" not in name
    mailbox = Mailbox.objects.filter(name=name, project=caller.project).first() if is_name else None
    if mailbox is None:
        raise ApiError(404, NO_MAILBOX)
    if not caller.may(Scope.WEBHOOKS_WRITE):
        raise ApiError(403, "You do not have the required scope 'webhooks.write' to deposit.")
    return Visitor(mailbox, caller.api_key.name, f"mailbox-key:{caller.api_key.pk}")


def _count(request: HttpRequest, visitor: Visitor) -> None:
    most = settings.MAILBOX_REQUESTS_PER_MINUTE
    spent = spend(visitor.subject, 1, {Window.MINUTE: most})
    seconds = spent.reset_seconds(Window.MINUTE)
    tell_rate(request, most, spent.remaining(Window.MINUTE), seconds)
    if spent.refused is not None:
        REFUSED.labels("rate").inc()
        message = f"Rate limit exceeded. Please try again later in {seconds} seconds."
        raise ApiError(429, message, headers={"Retry-After": str(seconds)})
