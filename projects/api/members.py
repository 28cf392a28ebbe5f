"""Who belongs to a project, over the API: its people, one's own memberships, roles, and finding somebody to add."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.access import memberships_of
from projects.api.grants import read_grant, read_new_grant
from projects.api.schemas import (
    CANNOT_GIVE,
    FOUND_PERSON,
    NEW_PROJECT_USER,
    PEOPLE_QUERY,
    PROJECT_USER,
    PROJECT_USER_CHANGE,
    ROLE,
)
from projects.endpoint import Endpoint, person_of
from projects.members import (
    ALREADY,
    IDENTITIES,
    LAST_OWNER,
    add_member,
    change_member,
    members_of,
    remove_all_members,
    remove_member,
)
from projects.models import Membership
from projects.objects import found_person_object, project_user_object, project_user_objects
from projects.people import MAX_FOUND, MAX_OFFSET, SEARCHES, search_people
from projects.roles import role_objects
from projects.scopes import Scope, by_method
from relay_project.db import rates
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.pagination import read_number, read_path_id, read_text, within
from relay_project.web.schema import EMPTY_LIST, listed

FOUND = 10  # people, when a search does not say how many


class ProjectUsersView(Endpoint):
    """`/project-users`."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_READ, POST=Scope.PROJECT_WRITE, DELETE=Scope.PROJECT_WRITE)

    @describe("listProjectUsers", "List the people of the project", answer=listed(PROJECT_USER))
    def get(self, request: Request) -> Response:
        """Everybody who belongs to the project."""
        return Response(project_user_objects(members_of(self.project)))

    @describe(
        "addProjectUser",
        "Add a person",
        body=NEW_PROJECT_USER,
        example={"user_id": 7, "scopes": ["project.read", "sends.read"]},
        answer=PROJECT_USER,
        refusals={
            400: (ALREADY,),
            403: (CANNOT_GIVE,),
            404: ("User with id 7 not found.",),
        },
    )
    def post(self, request: Request) -> Response:
        """Add a person."""
        fields = self.fields()
        user_id = fields.integer("user_id", required=True)
        scopes = read_grant(fields, required=False)
        fields.check()
        return Response(project_user_object(add_member(self.project, user_id or 0, scopes or [], self.caller)))

    @describe(
        "removeAllProjectUsers",
        "Remove everybody",
        "The project's keys go on working, and staff can add people again.",
        answer=EMPTY_LIST,
    )
    def delete(self, request: Request) -> Response:
        """Remove everybody, as the contract has it."""
        remove_all_members(self.project, self.caller)
        return Response([])


class ProjectUserView(Endpoint):
    """`/project-users/{id}`."""

    section = "Projects"
    required_scope = by_method(PATCH=Scope.PROJECT_WRITE, DELETE=Scope.PROJECT_WRITE)

    @describe(
        "updateProjectUser",
        "Give a person other scopes",
        "From their next request on.",
        body=PROJECT_USER_CHANGE,
        example={"role": "viewer"},
        answer=PROJECT_USER,
        refusals={400: (LAST_OWNER,), 403: (CANNOT_GIVE,)},
    )
    def patch(self, request: Request, member_id: str) -> Response:
        """Give a member other scopes."""
        member = self.entity(Membership.objects.select_related("project", "user"), member_id)
        fields = self.fields()
        scopes = read_new_grant(fields)
        fields.check()
        return Response(project_user_object(change_member(member, scopes, self.caller)))

    @describe(
        "removeProjectUser",
        "Remove a person",
        "Named by the id of the membership.",
        answer=EMPTY_LIST,
        refusals={400: (LAST_OWNER,)},
    )
    def delete(self, request: Request, member_id: str) -> Response:
        """Remove one person."""
        remove_member(self.entity(Membership.objects.select_related("project", "user"), member_id), self.caller)
        return Response([])


class RolesView(Endpoint):
    """`/roles`."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_READ)

    @describe("listRoles", "List roles", "Names for sets of scopes.", answer=listed(ROLE))
    def get(self, request: Request) -> Response:
        """The roles and what each may do."""
        return Response(role_objects())


class MembershipsView(Endpoint):
    """`/memberships`: a person's own, in all projects."""

    section = "Projects"
    project_level = False

    @describe("listMemberships", "List one's own memberships", "In all projects.", answer=listed(PROJECT_USER))
    def get(self, request: Request) -> Response:
        """Where one belongs."""
        return Response(project_user_objects(memberships_of(person_of(self)).prefetch_related(IDENTITIES)))


class MembershipView(Endpoint):
    """`/memberships/{id}`."""

    section = "Projects"
    project_level = False

    @describe("leaveProject", "Leave a project", answer=EMPTY_LIST, refusals={400: (LAST_OWNER,)})
    def delete(self, request: Request, member_id: str) -> Response:
        """Leave a project. Other people's memberships are as absent as those that do not exist."""
        membership = memberships_of(person_of(self)).filter(pk=read_path_id(member_id)).first()
        if membership is None:
            raise ApiError(404, "Entity not found")
        remove_member(membership, self.caller)
        return Response([])


class PeopleView(Endpoint):
    """`/api/oidc/search`."""

    section = "Projects"
    project_level = False

    @describe("searchPeople", "Find people to add", query=PEOPLE_QUERY, answer=listed(FOUND_PERSON))
    def get(self, request: Request) -> Response:
        """People to add to a project."""
        person = person_of(self)
        query = request.query_params
        text = (read_text(query, "search") or "").strip()
        limit, offset = read_number(query, "limit"), read_number(query, "offset")
        limit = FOUND if limit is None else within("limit", limit, 1, MAX_FOUND)
        offset = 0 if offset is None else within("offset", offset, 0, MAX_OFFSET)
        use = rates.use(SEARCHES, str(person.pk), datetime.now(UTC))
        if not use.allowed:
            raise ApiError(429, "Too many searches.", headers={"Retry-After": str(use.reset_seconds)})
        return Response([found_person_object(one) for one in search_people(person, text)[offset : offset + limit]])
