"""API keys over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.grants import read_grant
from projects.api_keys import KeyChange, create_key, delete_key, update_key
from projects.endpoint import Endpoint
from projects.key_rotation import most_overlap_hours, rotate_key
from projects.models import ApiKey
from projects.objects import api_key_object, timestamp
from projects.scopes import Scope, by_method
from relay_project.web.fields import Fields

LAST_MOMENT = 253_402_300_799  # 31 December 9999 in Unix seconds, where Python's datetime ends


class ApiKeysView(Endpoint):
    """`/api-keys`."""

    required_scope = by_method(GET=Scope.API_KEYS_READ, POST=Scope.API_KEYS_WRITE)

    def get(self, request: Request) -> Response:
        """All keys, without their tokens; there are ten at most."""
        return Response([api_key_object(key) for key in ApiKey.objects.filter(project=self.project)])

    def post(self, request: Request) -> Response:
        """A new key; the only answer with its token."""
        fields = self.fields()
        name = fields.text("name", required=True)
        scopes = read_grant(fields, required=True)
        allowed_ips = fields.texts("allowed_ips")
        expires_at = _read_expiry(fields)
        fields.check()
        key, token = create_key(
            self.project, name or "", scopes or [], allowed_ips or [], expires_at, caller=self.caller
        )
        return Response(api_key_object(key, token))


class ApiKeyView(Endpoint):
    """`/api-keys/{id}`."""

    required_scope = by_method(PATCH=Scope.API_KEYS_WRITE, DELETE=Scope.API_KEYS_WRITE)

    def patch(self, request: Request, key_id: str) -> Response:
        """Change what the body names."""
        key = self.entity(ApiKey.objects.all(), key_id)
        fields = self.fields()
        said = fields.data
        change = KeyChange(
            name=fields.text("name", required="name" in fields),
            is_enabled=fields.boolean("is_enabled"),
            scopes=read_grant(fields, required="scopes" in fields),
            allowed_ips=fields.texts("allowed_ips"),
            expires_at=_read_expiry(fields),
            never_expires="expires_at" in said and said["expires_at"] is None,
        )
        fields.check()
        return Response(api_key_object(update_key(key, change, self.caller)))

    def delete(self, request: Request, key_id: str) -> Response:
        """The key opens nothing any more."""
        delete_key(self.entity(ApiKey.objects.all(), key_id), self.caller)
        return Response([])


class RotateKeyView(Endpoint):
    """`/api-keys/{id}/rotate`."""

    required_scope = by_method(POST=Scope.API_KEYS_WRITE)

    def post(self, request: Request, key_id: str) -> Response:
        """A new secret; the only answer with it."""
        key = self.entity(ApiKey.objects.all(), key_id)
        fields = self.fields()
        hours = fields.integer("overlap_hours") or 0
        if not 0 <= hours <= most_overlap_hours():
            fields.note("overlap_hours", f"This value should be between 0 and {most_overlap_hours()}.")
        fields.check()
        key, token, until = rotate_key(key, hours, datetime.now(UTC), self.caller)
        return Response({**api_key_object(key, token), "former_key_until": timestamp(until)})


def _read_expiry(fields: Fields) -> datetime | None:
    """The field `expires_at`, ours: Unix seconds in the future; null is never."""
    seconds = fields.integer("expires_at")
    if seconds is None:
        return None
    if not datetime.now(UTC).timestamp() < seconds <= LAST_MOMENT:
        fields.note("expires_at", "This value should be a time in the future, in Unix seconds.")
        return None
    return datetime.fromtimestamp(seconds, UTC)
