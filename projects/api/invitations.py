"""Invitations over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.grants import read_grant
from projects.api.people_schemas import ACCEPTED_INVITATION, EXAMPLE_INVITATION, INVITATION, NEW_INVITATION
from projects.api.schemas import CANNOT_GIVE, PROJECT_USER
from projects.endpoint import Endpoint, person_of
from projects.invitations import (
    FULL,
    INVITED,
    NOT_SENT,
    TOO_MANY,
    AlreadyMember,
    NotOpen,
    accept,
    invite,
    open_invitations,
    send_again,
    withdraw,
)
from projects.members import ALREADY
from projects.models import Invitation
from projects.objects import invitation_object, project_user_object
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.schema import EMPTY_LIST, listed

NOT_OPEN = "This invitation is not open any more."


class InvitationsView(Endpoint):
    """`/invitations`."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_WRITE, POST=Scope.PROJECT_WRITE)

    @describe("listInvitations", "List open invitations", answer=listed(INVITATION), sample=[EXAMPLE_INVITATION])
    def get(self, request: Request) -> Response:
        """Those that wait for an answer; there are a hundred at most."""
        now = datetime.now(UTC)
        return Response([invitation_object(one, now) for one in open_invitations(self.project)])

    @describe(
        "createInvitation",
        "Invite somebody by mail",
        "The mail has a link that works once; nobody else is shown it. The answer does not tell whether the address has an "
        "account.",
        body=NEW_INVITATION,
        example={"email": "dora@example.com", "role": "viewer"},
        answer=INVITATION,
        sample=EXAMPLE_INVITATION,
        refusals={400: (INVITED, FULL), 403: (CANNOT_GIVE,), 429: (TOO_MANY,), 503: (NOT_SENT,)},
    )
    def post(self, request: Request) -> Response:
        """Invite an address. The answer is the same whether it has an account or not."""
        fields = self.fields()
        email = fields.text("email", required=True)
        scopes = read_grant(fields, required=True)
        fields.check()
        now = datetime.now(UTC)
        return Response(invitation_object(invite(self.project, email or "", scopes or [], now, self.caller), now))


class InvitationView(Endpoint):
    """`/invitations/{id}`."""

    section = "Projects"
    required_scope = by_method(DELETE=Scope.PROJECT_WRITE)

    @describe("deleteInvitation", "Withdraw an invitation", "Its link opens nothing any more.", answer=EMPTY_LIST)
    def delete(self, request: Request, invitation_id: str) -> Response:
        """Take it back: its link opens nothing any more."""
        withdraw(_open_one(self, invitation_id), self.caller)
        return Response([])


class SendAgainView(Endpoint):
    """`/invitations/{id}/resend`."""

    section = "Projects"
    required_scope = by_method(POST=Scope.PROJECT_WRITE)

    @describe(
        "resendInvitation",
        "Send an invitation again",
        "Needs the scopes that the invitation gives. The mail has another link; the former one ends.",
        answer=INVITATION,
        sample=EXAMPLE_INVITATION,
        refusals={403: (CANNOT_GIVE,), 429: (TOO_MANY,), 503: (NOT_SENT,)},
    )
    def post(self, request: Request, invitation_id: str) -> Response:
        """Another mail with another link; the former one ends."""
        now = datetime.now(UTC)
        return Response(invitation_object(send_again(_open_one(self, invitation_id), now, self.caller), now))


class AcceptInvitationView(Endpoint):
    """`/invitations/accept`: for whoever signed in, with the token at the end of the link."""

    section = "Console"
    project_level = False

    @describe(
        "acceptInvitation",
        "Join a project by an invitation",
        body=ACCEPTED_INVITATION,
        example={"token": "ZmFrZSB0b2tlbiBmb3IgdGhlIGV4YW1wbGU"},
        answer=PROJECT_USER,
        refusals={400: (ALREADY,), 404: (NOT_OPEN,)},
    )
    def post(self, request: Request) -> Response:
        """Join the project; the answer is one's membership."""
        fields = self.fields()
        token = fields.text("token", required=True)
        fields.check()
        try:
            membership = accept(token or "", person_of(self), datetime.now(UTC), self.caller.address)
        except NotOpen:
            raise ApiError(404, NOT_OPEN) from None
        except AlreadyMember:
            raise ApiError(400, ALREADY) from None
        return Response(project_user_object(membership))


def _open_one(view: Endpoint, raw_id: str) -> Invitation:
    found = Invitation.objects.select_related("project").filter(accepted_at=None)
    return view.entity(found, raw_id)
