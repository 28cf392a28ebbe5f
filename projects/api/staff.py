"""People, staff keys and the audit log over the staff API."""

from typing import Any, cast

from django.conf import settings
from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import staff
from accounts.models import AuditEntry, StaffKey, User
from accounts.staff import NotActive
from projects.api.grants import read_expiry
from projects.api.staff_schemas import (
    AUDIT_ENTRY,
    EXAMPLE_STAFF_KEY,
    INSTANCE,
    NEW_STAFF_KEY,
    PERSON,
    PERSON_CHANGE,
    STAFF_KEY,
    audit_object,
    person_object,
    staff_key_object,
)
from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.models import Domain
from projects.staff_endpoint import StaffEndpoint, page_of
from projects.staff_keys import NewStaffKey, create_staff_key, revoke_staff_key
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.pagination import read_number, read_page, read_text
from relay_project.web.schema import EMPTY_LIST, integer, listed, page, text

YOURSELF = "You cannot take your own access away; another member of staff can."
MAX_REASON = 255  # characters


class StaffInitView(StaffEndpoint):
    """`/init`."""

    @describe("staffInit", "What a staff console asks first", answer=INSTANCE)
    def post(self, request: Request) -> Response:
        """The installation's constants."""
        user = cast(User, request.user)
        return Response(
            {
                "config": {
                    "deployment": "on-prem",
                    "app_version": settings.VERSION,
                    "instance": settings.WEB_URL,
                    "blacklists": [],
                    "user": {
                        "id": user.pk,
                        "name": user.name,
                        "email": user.email or user.login or "",
                        "picture_url": user.picture_url or None,
                    },
                },
                "instance": _instance(),
            }
        )


class PeopleView(StaffEndpoint):
    """`/users`."""

    @describe(
        "listPeople",
        "List people",
        query={**page(), "search": text("A part of the name, the address or the login.")},
        answer=listed(PERSON),
    )
    def get(self, request: Request) -> Response:
        """A page of people, the newest first."""
        people: QuerySet[User] = User.objects.all()
        if search := read_text(request.query_params, "search"):
            people = people.filter(Q(name__icontains=search) | Q(email__icontains=search) | Q(login__icontains=search))
        return Response([person_object(person) for person in page_of(people, read_page(request.query_params))])


class PersonView(StaffEndpoint):
    """`/users/{id}`."""

    @describe(
        "changePerson",
        "Change a person's access",
        "Staff rights are granted and revoked, access is ended and given back, from the next request on.",
        body=PERSON_CHANGE,
        answer=PERSON,
        refusals={400: (YOURSELF,)},
    )
    def patch(self, request: Request, user_id: str) -> Response:
        """Do what the body names."""
        person = self.row(User.objects.all(), user_id)
        fields = self.fields()
        is_staff, is_active = fields.boolean("is_staff"), fields.boolean("is_active")
        reason = fields.text("reason", maximum=MAX_REASON) or ""
        fields.check()
        if person == request.user and False in (is_staff, is_active):
            raise ApiError(400, YOURSELF)
        if is_active is not None:
            (staff.switch_on if is_active else staff.switch_off)(person, **self.by)
        if is_staff is not None:
            self._set_staff(person, is_staff, reason)
        person.refresh_from_db()
        return Response(person_object(person))

    def _set_staff(self, person: User, wanted: bool, reason: str) -> None:
        try:
            (staff.grant if wanted else staff.revoke)(person, **self.by, reason=reason)
        except NotActive:
            raise ApiError(400, "A person who is switched off cannot become staff.") from None


class StaffKeysView(StaffEndpoint):
    """`/staff-keys`: one's own to make, everybody's to see."""

    @describe("listStaffKeys", "List staff keys", query=page(), answer=listed(STAFF_KEY))
    def get(self, request: Request) -> Response:
        """A page of keys, without their tokens."""
        return Response(
            [staff_key_object(key) for key in page_of(StaffKey.objects.all(), read_page(request.query_params))]
        )

    @describe(
        "createStaffKey",
        "Make a staff key",
        "It acts as you for as long as you are staff. The only answer that shows the key itself.",
        body=NEW_STAFF_KEY,
        example={"name": "Terraform", "allowed_ips": ["192.0.2.0/24"]},
        answer=STAFF_KEY,
        sample=EXAMPLE_STAFF_KEY,
    )
    def post(self, request: Request) -> Response:
        """A new key of whoever asks."""
        fields = self.fields()
        wanted = NewStaffKey(
            fields.text("name", required=True) or "",
            bool(fields.boolean("is_read_only")),
            fields.texts("allowed_ips") or (),
            read_expiry(fields),
        )
        fields.check()
        key, token = create_staff_key(cast(User, request.user), wanted, **self.by)
        return Response(staff_key_object(key, token))


class StaffKeyView(StaffEndpoint):
    """`/staff-keys/{id}`."""

    @describe("revokeStaffKey", "Revoke a staff key", answer=EMPTY_LIST)
    def delete(self, request: Request, key_id: str) -> Response:
        """It opens nothing any more."""
        revoke_staff_key(self.row(StaffKey.objects.select_related("user"), key_id), **self.by)
        return Response([])


class StaffAuditView(StaffEndpoint):
    """`/audit-log`."""

    @describe(
        "listAuditLog",
        "Read the audit log",
        query={
            **page("limit", "before_id"),
            "action": text("Such as `queue.paused`, or its beginning: `queue.`."),
            "actor_id": integer(),
            "project_id": integer(),
            "subject_kind": text("With `subject_id`: what it was done to."),
            "subject_id": integer(),
        },
        answer=listed(AUDIT_ENTRY),
    )
    def get(self, request: Request) -> Response:
        """A page of entries, the newest first."""
        query = request.query_params
        entries = AuditEntry.objects.all()
        if action := read_text(query, "action"):
            entries = entries.filter(action__startswith=action)
        if kind := read_text(query, "subject_kind"):
            entries = entries.filter(subject_kind=kind)
        for name in ("actor_id", "project_id", "subject_id"):
            if (wanted := read_number(query, name)) is not None:
                entries = entries.filter(**{name: wanted})
        return Response([audit_object(entry) for entry in page_of(entries, read_page(query))])


def _instance() -> dict[str, Any]:
    domain = Domain.objects.filter(project__is_system=True, domain=settings.INSTANCE_DOMAIN).first()
    key = current_key(domain) if domain else None
    return {
        "domain": settings.INSTANCE_DOMAIN,
        "dkim_host": dkim_host(key) if key else None,
        "dkim_txt_value": dkim_txt_value(key) if key else None,
    }
