"""Whom an OIDC identity signs in: (issuer, subject) → person, made at the first sign-in, refreshed at later ones."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from accounts import audit
from accounts.models import Identity, User
from accounts.staff import grant
from relay_project.db.locks import FIRST_PERSON
from relay_project.mail.text import clean

MAX_EMAIL = 254  # octets, RFC 5321 §4.5.3.1.3
MAX_NAME = 255  # characters, the width of User.name
MAX_PICTURE = 1024  # characters, the width of User.picture_url


@dataclass(frozen=True, slots=True)
class Profile:
    """What the provider says about a person, made harmless; None where it says nothing. It identifies nobody."""

    name: str | None = None
    email: str | None = None
    picture_url: str | None = None

    @classmethod
    def of(cls, claims: dict[str, Any]) -> "Profile":
        """Read the standard claims (OpenID Connect Core 1.0 §5.1), whatever types they turn out to have."""
        email = _text(claims, "email", MAX_EMAIL + 1)
        picture = _text(claims, "picture", MAX_PICTURE + 1)
        return cls(
            name=_text(claims, "name", MAX_NAME) or _text(claims, "preferred_username", MAX_NAME),
            email=email if email and len(email) <= MAX_EMAIL else None,
            picture_url=picture if picture and _is_picture(picture) else None,
        )

    def told(self) -> dict[str, str]:
        """The fields to write to the person."""
        fields = {"name": self.name, "email": self.email, "picture_url": self.picture_url}
        return {field: value for field, value in fields.items() if value}


def _text(claims: dict[str, Any], name: str, limit: int) -> str | None:
    value = claims.get(name)
    return " ".join(clean(value, limit).split()) or None if isinstance(value, str) else None


def _is_picture(url: str) -> bool:
    try:
        return len(url) <= MAX_PICTURE and urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def sign_in_person(issuer: str, subject: str, profile: Profile, now: datetime, address: str | None = None) -> User:
    """The person of an identity with a fresh profile; made if the identity is new. An inactive one is left as it is."""
    with transaction.atomic():
        identity = _find(issuer, subject) or _make(issuer, subject, profile, address)
        person = identity.user
        if person.is_active:
            Identity.objects.filter(pk=identity.pk).update(last_seen_at=now)
            _refresh(person, profile)
        return person


def find_person(issuer: str, subject: str) -> User | None:
    """The person of an identity, also an inactive one; None for one that never signed in and was not registered."""
    identity = _find(issuer, subject)
    return identity.user if identity else None


def register_client(subject: str, name: str, issuer: str, *, actor: User | None = None, actor_label: str = "") -> User:
    """An account for a machine that comes with access tokens of this subject; raises IntegrityError for a known one.

    It can be made a member like anybody, and signs in nowhere.
    """
    with transaction.atomic():
        client = User(name=clean(name, MAX_NAME).strip() or subject)
        client.set_unusable_password()
        client.save()
        Identity.objects.create(user=client, issuer=issuer, subject=subject)
        audit.record(
            "client.registered", actor=actor, subject=client, detail={"subject": subject}, actor_label=actor_label
        )
    return client


def _find(issuer: str, subject: str) -> Identity | None:
    return Identity.objects.select_related("user").filter(issuer=issuer, subject=subject).first()


def _refresh(person: User, profile: Profile) -> None:
    changed = {field: value for field, value in profile.told().items() if getattr(person, field) != value}
    if changed:
        User.objects.filter(pk=person.pk).update(**changed)
        person.refresh_from_db()


def _make(issuer: str, subject: str, profile: Profile, address: str | None) -> Identity:
    """A new person; two first sign-ins of the same identity at once meet at the unique constraint."""
    first = settings.OIDC_FIRST_USER_IS_STAFF and _is_first()
    try:
        with transaction.atomic():
            person = User(**profile.told())
            person.set_unusable_password()
            person.save()
            identity = Identity.objects.create(user=person, issuer=issuer, subject=subject)
    except IntegrityError:
        return Identity.objects.select_related("user").get(issuer=issuer, subject=subject)
    audit.record("person.created", actor=person, subject=person, address=address, detail={"by": "oidc"})
    if first:
        reason = "first OIDC user, OIDC_FIRST_USER_IS_STAFF is on"
        grant(person, actor=None, actor_label="settings", address=address, reason=reason)
    return identity


def _is_first() -> bool:
    """Whether nobody has signed in by OIDC yet; holds until the commit, so that of two at once only one is first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [FIRST_PERSON])
    return not Identity.objects.exists()
