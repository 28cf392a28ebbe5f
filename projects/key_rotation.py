"""Rotating a key: a new secret for the same key, and for a while the old one beside it.

Whoever rotates a key learns a secret that may do what the key may, so they must have its scopes themselves.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from projects.access import Caller, check_grant, record_by
from projects.api_keys import hash_token, make_token
from projects.events import EventKind
from projects.key_events import tell_of_key
from projects.models import ApiKey, FormerSecret
from projects.objects import timestamp


def most_overlap_hours() -> int:
    """For how long an old secret may go on working at most."""
    hours: int = settings.API_KEY_OVERLAP_HOURS
    return hours


def rotate_key(
    key: ApiKey, overlap_hours: int, now: datetime, caller: Caller | None = None
) -> tuple[ApiKey, str, datetime | None]:
    """The key, its new secret and until when the former one works too (None: it is refused from the next request on).

    A secret of an earlier rotation that still worked ends now. The caller has checked 0 ≤ overlap_hours ≤
    most_overlap_hours(); raises ApiError 403 for scopes that `caller` does not have.
    """
    token = make_token()
    until = now + timedelta(hours=overlap_hours) if overlap_hours else None
    with transaction.atomic():
        key = ApiKey.objects.select_for_update(of=("self",)).select_related("project").get(pk=key.pk)
        check_grant(key.scopes, caller)
        FormerSecret.objects.filter(key=key).delete()
        if until is not None:
            FormerSecret.objects.create(key=key, key_hash=key.key_hash, valid_until=until)
        key.key_hash = hash_token(token)
        key.save(update_fields=["key_hash"])
        record_by(caller, "api_key.rotated", key, key.project, name=key.name, overlap_hours=overlap_hours)
        tell_of_key(EventKind.API_KEY_ROTATED, key, former_until=timestamp(until))
    return key, token, until


def sweep_former(now: datetime) -> int:
    """Delete secrets that open nothing any more; returns how many."""
    return FormerSecret.objects.filter(valid_until__lte=now).delete()[0]
