"""Events of API keys: what a key is, never its secret."""

from typing import Any

from projects.events import EventKind, NewEvent, emit
from projects.models import ApiKey
from projects.objects import api_key_object

DELETED, DISABLED = "deleted", "disabled"  # why a key opens nothing any more


def tell_of_key(kind: EventKind, key: ApiKey, **more: Any) -> None:
    """Write an event of a key, in the caller's transaction."""
    emit(NewEvent(key.project_id, kind, "api_key", key.pk, {"api_key": api_key_object(key), **more}))
