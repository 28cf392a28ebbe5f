"""Invitations over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.grants import read_grant
from projects.endpoint import Endpoint, person_of
from projects.invitations import AlreadyMember, NotOpen, accept, invite, open_invitations, send_again, withdraw
from projects.models import Invitation
from projects.objects import invitation_object, project_user_object
from projects.scopes import Scope, by_method
from relay_project.web.errors import ApiError


class InvitationsView(Endpoint):
    """`/invitations`."""

    required_scope = by_method(GET=Scope.PROJECT_WRITE, POST=Scope.PROJECT_WRITE)

    def get(self, request: Request) -> Response:
        """Those that wait for an answer; there are a hundred at most."""
        now = datetime.now(UTC)
        return Response([invitation_object(one, now) for one in open_invitations(self.project)])

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

    required_scope = by_method(DELETE=Scope.PROJECT_WRITE)

    def delete(self, request: Request, invitation_id: str) -> Response:
        """Take it back: its link opens nothing any more."""
        withdraw(_open_one(self, invitation_id), self.caller)
        return Response([])


class SendAgainView(Endpoint):
    """`/invitations/{id}/resend`."""

    required_scope = by_method(POST=Scope.PROJECT_WRITE)

    def post(self, request: Request, invitation_id: str) -> Response:
        """Another mail with another link; the former one ends."""
        now = datetime.now(UTC)
        return Response(invitation_object(send_again(_open_one(self, invitation_id), now, self.caller), now))


class AcceptInvitationView(Endpoint):
    """`/invitations/accept`: for whoever signed in, with the token at the end of the link."""

    project_level = False

    def post(self, request: Request) -> Response:
        """Join the project; the answer is one's membership."""
        fields = self.fields()
        token = fields.text("token", required=True)
        fields.check()
        try:
            membership = accept(token or "", person_of(self), datetime.now(UTC), self.caller.address)
        except NotOpen:
            raise ApiError(404, "This invitation is not open any more.") from None
        except AlreadyMember:
            raise ApiError(400, "User is already added to the project") from None
        return Response(project_user_object(membership))


def _open_one(view: Endpoint, raw_id: str) -> Invitation:
    found = Invitation.objects.select_related("project").filter(accepted_at=None)
    return view.entity(found, raw_id)
