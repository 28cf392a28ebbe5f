"""Keys of staff: with one, a script uses the staff API as the person who made it, for as long as that person is staff.

Shown once; only the SHA-256 is kept. It opens nothing outside of /api/sudo.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import StaffKey, User
from projects.api_keys import LAST_ACCESS_EVERY, KeyRefused, hash_token, is_allowed, normalise_allowed_ips
from projects.guesses import check_guess, note_right, note_wrong
from relay_project.web.errors import ApiError

PREFIX = "relay_staff_"  # so that a leaked one is known for what it is
TOKEN_BYTES = 20  # 160 bits
MAX_KEYS = 20  # of one person


@dataclass(frozen=True, slots=True)
class NewStaffKey:
    """What a new key is to be."""

    name: str
    is_read_only: bool = False
    allowed_ips: Sequence[str] = ()
    expires_at: datetime | None = None


def create_staff_key(
    user: User, wanted: NewStaffKey, *, actor: User | None, address: str | None = None, actor_label: str = ""
) -> tuple[StaffKey, str]:
    """A new key of a person who is staff, and its token; raises Violations, ApiError 400."""
    if not (user.is_active and user.is_staff):
        raise ApiError(400, "Only staff have keys to the staff API.")
    networks = normalise_allowed_ips(wanted.allowed_ips)
    token = PREFIX + secrets.token_hex(TOKEN_BYTES)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # or two at once would both find the last place
        if StaffKey.objects.filter(user=user).count() >= MAX_KEYS:
            raise ApiError(400, f"A person has {MAX_KEYS} keys to the staff API at most.")
        key = StaffKey.objects.create(
            user=user,
            name=wanted.name,
            key_hash=hash_token(token),
            is_read_only=wanted.is_read_only,
            allowed_ips=networks,
            expires_at=wanted.expires_at,
        )
        detail = {"name": key.name, "read_only": key.is_read_only, "allowed_ips": networks}
        audit.record(
            "staff_key.created", actor=actor, subject=key, address=address, detail=detail, actor_label=actor_label
        )
    return key, token


def revoke_staff_key(key: StaffKey, *, actor: User | None, address: str | None = None, actor_label: str = "") -> None:
    """It opens nothing from the next request on."""
    with transaction.atomic():
        audit.record(
            "staff_key.revoked",
            actor=actor,
            subject=key,
            address=address,
            detail={"name": key.name, "of": str(key.user)},
            actor_label=actor_label,
        )
        key.delete()


def authenticate_staff_key(token: str, address: str, now: datetime) -> StaffKey:
    """The key of a token, with its person; raises KeyRefused, and ApiError 429 after many wrong ones."""
    token_hash = hash_token(token)
    check_guess(address, token_hash)
    key = StaffKey.objects.select_related("user").filter(key_hash=token_hash).first()
    if key is None:
        note_wrong(address, now)
        raise KeyRefused("Invalid API key.")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyRefused("This API key has expired.")
    if not is_allowed(address, tuple(key.allowed_ips)):
        raise KeyRefused("Client IP is not allowed for this API key.")
    note_right(token_hash)
    stale = now - LAST_ACCESS_EVERY
    if key.last_used_at is None or key.last_used_at <= stale:
        is_stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=stale)
        StaffKey.objects.filter(is_stale, pk=key.pk).update(last_used_at=now)
    return key
