"""Local sign-in: passwords, one-time links, how often one may try; and how every session begins."""

import hashlib
import secrets
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.backends import BaseBackend
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_variables

from accounts import audit
from accounts.models import SignInLink, User
from relay_project.db import rates
from relay_project.db.rates import Rate
from relay_project.net.addresses import network_of

# Ten guesses a quarter of an hour find no password of ten characters; an honest person rarely needs more than five.
TRIES_PER_LOGIN = Rate("sign-in login", 10, 900)
# An office behind one address may have several people who mistype at once.
TRIES_PER_NETWORK = Rate("sign-in address", 50, 900)
LINK_BYTES = 32  # random octets of a link's token: beyond guessing, so a plain SHA-256 is a good enough hash
LINK_MINUTES = 15
LINK_KEPT = timedelta(days=30)  # used and expired links, for whoever reads the audit log
LOCAL_BACKEND = "accounts.sign_in.PasswordBackend"

log = structlog.get_logger(__name__)


class TooManyTries(Exception):
    """Locked out; `seconds` until the next try counts again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many tries, {seconds} s left")
        self.seconds = seconds


class PasswordBackend(BaseBackend):
    """Django's hashers behind the local login. Takes `login`, not `username`: no other form slips past the limits."""

    @sensitive_variables("password")
    def authenticate(self, request: HttpRequest | None, login: str, password: str) -> User | None:  # type: ignore[override]
        """The active person with that login and password; an unknown login takes as long as a wrong password."""
        if not settings.LOCAL_SIGN_IN:
            return None
        try:
            person = User.objects.get_by_natural_key(login)
        except User.DoesNotExist:
            User().set_password(password)  # the same work, for nobody
            return None
        return person if person.check_password(password) and person.is_active else None

    def get_user(self, user_id: int) -> User | None:
        """The person of a session, as long as they are active."""
        return User.objects.filter(pk=user_id, is_active=True).first()


@sensitive_variables("password")
def try_password(request: HttpRequest, login: str, password: str, now: datetime) -> User | None:
    """The person, or None for a wrong login or password; raises TooManyTries.

    Counts before it looks, so that guesses made at the same time all count. Call it outside a transaction.
    """
    address = audit.address_of(request)
    # The network first: one that is locked out must not go on locking out other people's logins.
    of_network = _count_try(TRIES_PER_NETWORK, network_of(address), now)
    of_login = _count_try(TRIES_PER_LOGIN, _login_key(login), now)
    person = auth.authenticate(request, login=login, password=password)
    if isinstance(person, User):
        rates.forget(TRIES_PER_LOGIN, _login_key(login))
        return person
    log.info("sign_in_refused", address=address, tries_left=min(of_login, of_network))
    if not of_login or not of_network:
        target = User.objects.filter(login=login.strip().casefold()).first()
        limit = "login" if not of_login else "address"
        audit.record("sign_in.locked", actor=None, subject=target, address=address, detail={"limit": limit})
    return None


def _count_try(rate: Rate, key: str, now: datetime) -> int:
    """Count one try; how many are left."""
    use = rates.use(rate, key, now)
    if not use.allowed:
        raise TooManyTries(use.reset_seconds)
    return use.remaining


def _login_key(login: str) -> str:
    """A key of bounded length that does not spread logins, and passwords typed into the wrong field, over tables."""
    return hashlib.sha256(login.strip().casefold().encode()).hexdigest()


def make_link(user: User, now: datetime, minutes: int = LINK_MINUTES, actor: User | None = None) -> str:
    """The path of a new link that signs the person in once; only its hash is stored, so show it now or never."""
    token = secrets.token_urlsafe(LINK_BYTES)
    with transaction.atomic():
        link = SignInLink.objects.create(
            user=user, token_hash=_hash(token), expires_at=now + timedelta(minutes=minutes)
        )
        audit.record("sign_in.link_made", actor=actor, subject=user, detail={"link": link.pk, "minutes": minutes})
    return reverse("sign_in_link", args=[token])


def is_usable(token: str, now: datetime) -> bool:
    """Whether the link would sign somebody in."""
    return SignInLink.objects.filter(
        token_hash=_hash(token), used_at=None, expires_at__gt=now, user__is_active=True
    ).exists()


def use_link(token: str, now: datetime) -> User | None:
    """Spend a link: its person, or None when it is used, expired or unknown, or the person switched off.

    One UPDATE decides, on columns of the link alone: a condition on the person would become a subquery, and of two
    uses at once both could pass it.
    """
    spent = SignInLink.objects.filter(token_hash=_hash(token), used_at=None, expires_at__gt=now).update(used_at=now)
    if not spent:
        return None
    person = User.objects.get(sign_in_links__token_hash=_hash(token))
    return person if person.is_active else None


def spend_links(user: User, now: datetime) -> int:
    """End a person's open links, as when the password changes; returns how many."""
    return SignInLink.objects.filter(user=user, used_at=None, expires_at__gt=now).update(used_at=now)


def sweep_links(now: datetime) -> int:
    """Delete links that ended long ago; returns how many."""
    return SignInLink.objects.filter(expires_at__lt=now - LINK_KEPT).delete()[0]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def begin_session(request: HttpRequest, user: User, how: str, backend: str = LOCAL_BACKEND) -> None:
    """Sign a person in under a new session key, and say so in the audit log; `how` is password, link or oidc."""
    before = request.session.session_key
    with transaction.atomic():
        audit.record(f"sign_in.{how}", actor=user, subject=user, address=audit.address_of(request))
        auth.login(request, user, backend=backend)
        if before is not None and request.session.session_key == before:
            request.session.cycle_key()  # Django keeps the key of a person who was signed in already
        request.session.set_expiry(None)  # not the short one of a session that waited for a provider


def safe_next(request: HttpRequest, target: str | None) -> str:
    """Where to go after signing in: `target` if it is a page of this host, else the first page."""
    hosts = {request.get_host()}
    if target and url_has_allowed_host_and_scheme(target, allowed_hosts=hosts, require_https=request.is_secure()):
        return target
    return resolve_url(settings.LOGIN_REDIRECT_URL)
