"""Mailboxes over the API: making, changing and deleting them, and their tokens. What lies in them: webhooks.mailbox.views."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.pagination import read_path_id
from relay_project.web.schema import EMPTY_LIST, listed
from webhooks.api.mailbox_schemas import (
    EXAMPLE_MAILBOX,
    EXAMPLE_TOKEN,
    MAILBOX,
    MAILBOX_CHANGE,
    NEW_MAILBOX,
    NEW_TOKEN,
    TOKEN,
)
from webhooks.mailbox.manage import (
    MAX_DESCRIPTION,
    TOO_MANY,
    TOO_MANY_TOKENS,
    MailboxChange,
    create_mailbox,
    create_token,
    delete_mailbox,
    delete_token,
    mailboxes_of,
    update_mailbox,
)
from webhooks.mailbox.objects import mailbox_object, token_object
from webhooks.models.mailbox import MAX_NAME, Mailbox, MailboxToken, TokenKind

_READ, _WRITE = Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE


class MailboxesView(Endpoint):
    """`/mailboxes`."""

    section = "Mailboxes"
    required_scope = by_method(GET=_READ, POST=_WRITE)

    @describe("listMailboxes", "List mailboxes", answer=listed(MAILBOX), sample=[EXAMPLE_MAILBOX])
    def get(self, request: Request) -> Response:
        """All of the project's."""
        return Response([mailbox_object(mailbox) for mailbox in mailboxes_of(self.project)])

    @describe(
        "createMailbox",
        "Make a mailbox",
        "It is told of the events it names from now on; without any it only holds what is deposited. Nobody can fetch from "
        "it before it has a token.",
        body=NEW_MAILBOX,
        example={"name": "orders", "events": ["send.recipient.bounced"]},
        answer=MAILBOX,
        sample=EXAMPLE_MAILBOX,
        refusals={400: (TOO_MANY,)},
    )
    def post(self, request: Request) -> Response:
        """A new one."""
        fields = self.fields()
        name = fields.text("name", required=True, maximum=MAX_NAME)
        change = _read_change(self)
        fields.check()
        return Response(mailbox_object(create_mailbox(self.project, name or "", change, self.caller)))


class MailboxView(Endpoint):
    """`/mailboxes/{id}`."""

    section = "Mailboxes"
    required_scope = by_method(GET=_READ, PATCH=_WRITE, DELETE=_WRITE)

    @describe("getMailbox", "Get a mailbox", answer=MAILBOX, sample=EXAMPLE_MAILBOX)
    def get(self, request: Request, mailbox_id: str) -> Response:
        """One of them."""
        return Response(mailbox_object(_mailbox(self, mailbox_id)))

    @describe(
        "updateMailbox",
        "Change a mailbox",
        "Only what the body names. Its name is its address and stays.",
        body=MAILBOX_CHANGE,
        example={"is_enabled": False},
        answer=MAILBOX,
        sample={**EXAMPLE_MAILBOX, "is_enabled": False},
    )
    def patch(self, request: Request, mailbox_id: str) -> Response:
        """Change what the body names."""
        mailbox = _mailbox(self, mailbox_id)
        return Response(mailbox_object(update_mailbox(mailbox, _read_change(self), self.caller)))

    @describe("deleteMailbox", "Delete a mailbox", "With everything that lies in it.", answer=EMPTY_LIST)
    def delete(self, request: Request, mailbox_id: str) -> Response:
        """Gone, with all in it."""
        delete_mailbox(_mailbox(self, mailbox_id), self.caller)
        return Response([])


class MailboxTokensView(Endpoint):
    """`/mailboxes/{id}/tokens`."""

    section = "Mailboxes"
    required_scope = by_method(GET=_READ, POST=_WRITE)

    @describe("listMailboxTokens", "List a mailbox's tokens", answer=listed(TOKEN), sample=[EXAMPLE_TOKEN])
    def get(self, request: Request, mailbox_id: str) -> Response:
        """All, without their text."""
        return Response([token_object(token) for token in _mailbox(self, mailbox_id).tokens.order_by("id")])

    @describe(
        "createMailboxToken",
        "Make a token",
        "The only answer that shows it. To replace one, make another, use it, and delete the old one.",
        body=NEW_TOKEN,
        example={"kind": "receive", "name": "worker 1"},
        answer=TOKEN,
        sample={**EXAMPLE_TOKEN, "token": "mbx_8pQw…"},
        refusals={400: (TOO_MANY_TOKENS,)},
    )
    def post(self, request: Request, mailbox_id: str) -> Response:
        """A new one; the only answer with its text."""
        mailbox = _mailbox(self, mailbox_id)
        fields = self.fields()
        kind = fields.choice("kind", TokenKind.values, required=True)
        name = fields.text("name")
        fields.check()
        return Response(token_object(*create_token(mailbox, TokenKind(kind or ""), name or "", self.caller)))


class MailboxTokenView(Endpoint):
    """`/mailboxes/{id}/tokens/{id}`."""

    section = "Mailboxes"
    required_scope = by_method(DELETE=_WRITE)

    @describe("deleteMailboxToken", "Delete a token", "It opens nothing from the next request on.", answer=EMPTY_LIST)
    def delete(self, request: Request, mailbox_id: str, token_id: str) -> Response:
        """It opens nothing any more."""
        mailbox = _mailbox(self, mailbox_id)
        tokens = MailboxToken.objects.select_related("mailbox__project").filter(mailbox=mailbox)
        token = tokens.filter(pk=read_path_id(token_id)).first()
        if token is None:
            raise ApiError(404, "Entity not found")
        delete_token(token, self.caller)
        return Response([])


def _mailbox(view: Endpoint, mailbox_id: str) -> Mailbox:
    return view.entity(Mailbox.objects.select_related("project"), mailbox_id)


def _read_change(view: Endpoint) -> MailboxChange:
    fields = view.fields()
    values: dict[str, Any] = {
        "description": fields.text("description", maximum=MAX_DESCRIPTION),
        "events": fields.texts("events"),
        "tags": fields.texts("tags"),
        "domains": fields.texts("domains"),
        "is_enabled": fields.boolean("is_enabled"),
    }
    fields.check()
    return MailboxChange(**values)
