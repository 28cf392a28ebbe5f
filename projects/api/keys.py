"""API keys over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.grants import read_expiry, read_grant
from projects.api.people_schemas import ROTATED_KEY, ROTATION
from projects.api.schemas import API_KEY, API_KEY_CHANGE, CANNOT_GIVE, EXAMPLE_API_KEY, NEW_API_KEY
from projects.api_keys import IP_NEEDED, TOO_MANY, KeyChange, create_key, delete_key, update_key
from projects.endpoint import Endpoint
from projects.key_rotation import most_overlap_hours, rotate_key
from projects.models import ApiKey
from projects.objects import api_key_object, timestamp
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.schema import EMPTY_LIST, listed


class ApiKeysView(Endpoint):
    """`/api-keys`."""

    section = "API keys"
    required_scope = by_method(GET=Scope.API_KEYS_READ, POST=Scope.API_KEYS_WRITE)

    @describe(
        "listApiKeys",
        "List API keys",
        answer=listed(API_KEY),
        sample=[{**EXAMPLE_API_KEY, "key": None}],
    )
    def get(self, request: Request) -> Response:
        """All keys, without their tokens; there are ten at most."""
        return Response([api_key_object(key) for key in ApiKey.objects.filter(project=self.project)])

    @describe(
        "createApiKey",
        "Make an API key",
        "The only answer that shows the key itself. With `sends.send` it must name the addresses it may be used from.",
        body=NEW_API_KEY,
        example={"name": "Shop's server", "scopes": ["sends.read", "sends.send"], "allowed_ips": ["192.0.2.0/24"]},
        answer=API_KEY,
        sample=EXAMPLE_API_KEY,
        refusals={400: (TOO_MANY,), 403: (CANNOT_GIVE,)},
    )
    def post(self, request: Request) -> Response:
        """A new key; the only answer with its token."""
        fields = self.fields()
        name = fields.text("name", required=True)
        scopes = read_grant(fields, required=True)
        allowed_ips = fields.texts("allowed_ips")
        expires_at, is_test = read_expiry(fields), fields.boolean("is_test") or False
        fields.check()
        key, token = create_key(
            self.project, name or "", scopes or [], allowed_ips or [], expires_at, caller=self.caller, is_test=is_test
        )
        return Response(api_key_object(key, token))


class ApiKeyView(Endpoint):
    """`/api-keys/{id}`."""

    section = "API keys"
    required_scope = by_method(PATCH=Scope.API_KEYS_WRITE, DELETE=Scope.API_KEYS_WRITE)

    @describe(
        "updateApiKey",
        "Change an API key",
        "Only what the body names.",
        body=API_KEY_CHANGE,
        example={"is_enabled": False},
        answer=API_KEY,
        sample={**EXAMPLE_API_KEY, "key": None, "is_enabled": False},
        refusals={400: (IP_NEEDED,), 403: (CANNOT_GIVE,)},
    )
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
            expires_at=read_expiry(fields),
            never_expires="expires_at" in said and said["expires_at"] is None,
        )
        if fields.boolean("is_test") not in (None, key.is_test):
            fields.note("is_test", "A key is a test key, or none, for good.")
        fields.check()
        return Response(api_key_object(update_key(key, change, self.caller)))

    @describe("deleteApiKey", "Delete an API key", "It opens nothing from the next request on.", answer=EMPTY_LIST)
    def delete(self, request: Request, key_id: str) -> Response:
        """The key opens nothing any more."""
        delete_key(self.entity(ApiKey.objects.all(), key_id), self.caller)
        return Response([])


class RotateKeyView(Endpoint):
    """`/api-keys/{id}/rotate`."""

    section = "API keys"
    required_scope = by_method(POST=Scope.API_KEYS_WRITE)

    @describe(
        "rotateApiKey",
        "Give a key a new secret",
        "Needs all scopes of the key. The only answer that shows the new secret; the old one works on for the overlap.",
        body=ROTATION,
        example={"overlap_hours": 24},
        answer=ROTATED_KEY,
        sample={**EXAMPLE_API_KEY, "former_key_until": 1795401470},
        refusals={403: (CANNOT_GIVE,)},
    )
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
