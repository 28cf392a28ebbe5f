"""Mail that a project receives: its domains, its routes, and what came. Relay's own addition to the contract."""

from datetime import UTC, datetime

from django.http import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.scopes import Scope, by_method
from projects.staff_views import note_content_view
from relay_project.mail.received import attachment_of, read_received
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.fields import Fields
from relay_project.web.octets import octets_response
from relay_project.web.pagination import read_page, read_path_id
from relay_project.web.schema import EMPTY_LIST, listed, page, string
from sending.api.inbound_schemas import (
    EXAMPLE_RECEIVED,
    EXAMPLE_RECEIVING_DOMAIN,
    EXAMPLE_ROUTE,
    EXAMPLE_WHOLE,
    NEW_RECEIVING_DOMAIN,
    NEW_ROUTE,
    RECEIVED,
    RECEIVED_QUERY,
    RECEIVED_WHOLE,
    RECEIVING_DOMAIN,
    ROUTE,
    ROUTE_CHANGE,
    ROUTE_QUERY,
)
from sending.inbound.routing.change import (
    MAX_DESCRIPTION,
    MAX_FORWARD_TO,
    MAX_PRIORITY,
    TOO_MANY_DOMAINS,
    TOO_MANY_ROUTES,
    RouteChange,
    add_domain,
    add_route,
    change_route,
    remove_domain,
    remove_route,
)
from sending.inbound.routing.dns import check_mx
from sending.inbound.routing.find import domains_of, find_received, octets_of_mail, routes_of
from sending.inbound.routing.objects import (
    message_object,
    received_object,
    receiving_domain_object,
    route_object,
)
from sending.models import InboundRoute, ReceivedMail, ReceivingDomain, RouteAction

SECTION = "Inbound"
NOT_KEPT = "This mail is not kept any more."
NO_ATTACHMENT = "This mail has no such attachment."


class ReceivingDomainsView(Endpoint):
    """`/inbound-domains`."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ, POST=Scope.INBOUND_WRITE)

    @describe(
        "listReceivingDomains",
        "List receiving domains",
        query=page("limit", "offset"),
        answer=listed(RECEIVING_DOMAIN),
        sample=[EXAMPLE_RECEIVING_DOMAIN],
    )
    def get(self, request: Request) -> Response:
        """A page, by name."""
        wanted = read_page(request.query_params)
        rows = domains_of(self.project)[wanted.offset : wanted.offset + wanted.limit]
        return Response([receiving_domain_object(row) for row in rows])

    @describe(
        "createReceivingDomain",
        "Receive a domain's mail",
        "The project must be able to send from the domain, or from one above it. Publish `mx`, then make routes.",
        body=NEW_RECEIVING_DOMAIN,
        example={"domain": "in.shop.example"},
        answer=RECEIVING_DOMAIN,
        sample=EXAMPLE_RECEIVING_DOMAIN,
        refusals={400: (TOO_MANY_DOMAINS,)},
    )
    def post(self, request: Request) -> Response:
        """Add one."""
        fields = self.fields()
        name = fields.text("domain", required=True, maximum=254)
        catch_all = fields.boolean("catch_all")
        fields.check()
        row = add_domain(self.project, name or "", self.caller, catch_all=bool(catch_all))
        return Response(receiving_domain_object(row))


class ReceivingDomainView(Endpoint):
    """`/inbound-domains/{id}`."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ, DELETE=Scope.INBOUND_WRITE)

    @describe("getReceivingDomain", "Get a receiving domain", answer=RECEIVING_DOMAIN, sample=EXAMPLE_RECEIVING_DOMAIN)
    def get(self, request: Request, domain_id: str) -> Response:
        """One."""
        return Response(receiving_domain_object(self.entity(ReceivingDomain.objects.all(), domain_id)))

    @describe(
        "deleteReceivingDomain",
        "Receive a domain's mail no more",
        "Its routes go with it; mail that came stays for its time.",
        answer=EMPTY_LIST,
    )
    def delete(self, request: Request, domain_id: str) -> Response:
        """Delete it."""
        remove_domain(self.entity(ReceivingDomain.objects.select_related("project"), domain_id), self.caller)
        return Response([])


class MxCheckView(Endpoint):
    """`/inbound-domains/{id}/check`."""

    section = SECTION
    required_scope = by_method(POST=Scope.INBOUND_WRITE)

    @describe(
        "checkReceivingDomain",
        "Look for a receiving domain's MX record",
        "Mail is taken whatever DNS says; without the record none comes.",
        answer=RECEIVING_DOMAIN,
        sample=EXAMPLE_RECEIVING_DOMAIN,
    )
    def post(self, request: Request, domain_id: str) -> Response:
        """Ask DNS now."""
        row = check_mx(self.entity(ReceivingDomain.objects.all(), domain_id), datetime.now(UTC))
        return Response(receiving_domain_object(row))


class RoutesView(Endpoint):
    """`/inbound-routes`."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ, POST=Scope.INBOUND_WRITE)

    @describe(
        "listInboundRoutes",
        "List inbound routes",
        "Domain by domain, in the order in which they are held against an address.",
        query=ROUTE_QUERY,
        answer=listed(ROUTE),
        sample=[EXAMPLE_ROUTE],
    )
    def get(self, request: Request) -> Response:
        """A page."""
        wanted = read_page(request.query_params)
        routes = routes_of(self.project, self.filter_id(ReceivingDomain.objects.all(), "domain_id"))
        return Response([route_object(route) for route in routes[wanted.offset : wanted.offset + wanted.limit]])

    @describe(
        "createInboundRoute",
        "Make an inbound route",
        "For an address there is one route that decides: the first that fits, by `priority`, then by age.",
        body=NEW_ROUTE,
        example={"address": "support+*@in.shop.example", "priority": 10, "description": "Replies to tickets"},
        answer=ROUTE,
        sample=EXAMPLE_ROUTE,
        refusals={400: (TOO_MANY_ROUTES,)},
    )
    def post(self, request: Request) -> Response:
        """Add one."""
        return Response(route_object(add_route(self.project, read_route(self.fields(), is_new=True), self.caller)))


class RouteView(Endpoint):
    """`/inbound-routes/{id}`."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ, PATCH=Scope.INBOUND_WRITE, DELETE=Scope.INBOUND_WRITE)

    @describe("getInboundRoute", "Get an inbound route", answer=ROUTE, sample=EXAMPLE_ROUTE)
    def get(self, request: Request, route_id: str) -> Response:
        """One."""
        return Response(route_object(self.route(route_id)))

    @describe(
        "updateInboundRoute",
        "Change an inbound route",
        "What is absent stays.",
        body=ROUTE_CHANGE,
        example={"action": "drop"},
        answer=ROUTE,
        sample=EXAMPLE_ROUTE,
    )
    def patch(self, request: Request, route_id: str) -> Response:
        """Change it."""
        route = self.route(route_id)
        return Response(route_object(change_route(route, read_route(self.fields(), is_new=False), self.caller)))

    @describe("deleteInboundRoute", "Delete an inbound route", answer=EMPTY_LIST)
    def delete(self, request: Request, route_id: str) -> Response:
        """Delete it."""
        remove_route(self.route(route_id), self.caller)
        return Response([])

    def route(self, raw_id: str) -> InboundRoute:
        """The project's route; raises ApiError 400, 404 or 403."""
        return self.entity(InboundRoute.objects.select_related("domain", "project"), raw_id)


class ReceivedView(Endpoint):
    """`/inbound`."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ)

    @describe(
        "listReceivedMail",
        "List received mail",
        "The newest first.",
        query=RECEIVED_QUERY,
        answer=listed(RECEIVED),
        sample=[EXAMPLE_RECEIVED],
    )
    def get(self, request: Request) -> Response:
        """A page."""
        wanted = read_page(request.query_params)
        route_id = self.filter_id(InboundRoute.objects.all(), "route_id")
        rows = find_received(self.project.pk, datetime.now(UTC), wanted.limit, wanted.before_id, route_id)
        return Response([received_object(row) for row in rows])


class _Received(Endpoint):
    """One received mail."""

    section = SECTION
    required_scope = by_method(GET=Scope.INBOUND_READ)

    def row(self, raw_id: str) -> ReceivedMail:
        """The project's mail; raises ApiError 400, 404 or 403."""
        row = self.entity(ReceivedMail.objects.all(), raw_id)
        note_content_view(self.caller, row, datetime.now(UTC))
        return row

    def octets(self, raw_id: str) -> bytes:
        """Its bytes; raises ApiError 404 when they are not kept any more."""
        octets = octets_of_mail(self.row(raw_id))
        if octets is None:
            raise ApiError(404, NOT_KEPT)
        return octets


class OneReceivedView(_Received):
    """`/inbound/{id}`."""

    @describe(
        "getReceivedMail",
        "Get a received mail",
        "Each body is cut at 200,000 characters; the source has all of them.",
        answer=RECEIVED_WHOLE,
        sample=EXAMPLE_WHOLE,
    )
    def get(self, request: Request, received_id: str) -> Response:
        """With its bodies and its header."""
        row = self.row(received_id)
        octets = octets_of_mail(row)
        if octets is None:
            return Response({**received_object(row), "message": None, "headers": []})
        message = read_received(octets)
        headers = [list(field) for field in message.headers]
        return Response({**received_object(row), "message": message_object(message), "headers": headers})


class SourceView(_Received):
    """`/inbound/{id}/raw`."""

    @describe(
        "getReceivedMailSource",
        "Get a received mail as it came",
        answer=string("The mail's octets."),
        gives="application/octet-stream",  # generated clients know no message/rfc822
        refusals={404: (NOT_KEPT,)},
        answer_headers={"Content-Disposition": "A name for the file."},
    )
    def get(self, request: Request, received_id: str) -> HttpResponseBase:
        """The bytes."""
        return octets_response(self.octets(received_id), "application/octet-stream", f"inbound-{int(received_id)}.eml")


class AttachmentView(_Received):
    """`/inbound/{id}/attachments/{id}`."""

    @describe(
        "getReceivedAttachment",
        "Get an attachment of a received mail",
        "Always as `application/octet-stream`: the type that the sender named stands in the mail's `attachments`.",
        answer=string("The file's octets."),
        gives="application/octet-stream",
        refusals={404: (NOT_KEPT, NO_ATTACHMENT)},
        answer_headers={"Content-Disposition": "The name that the sender gave it."},
    )
    def get(self, request: Request, received_id: str, attachment_id: str) -> HttpResponseBase:
        """The bytes of one file."""
        number = read_path_id(attachment_id)
        found = attachment_of(self.octets(received_id), number)
        if found is None:
            raise ApiError(404, NO_ATTACHMENT)
        return octets_response(found[1], "application/octet-stream", found[0].name)


def read_route(fields: Fields, *, is_new: bool) -> RouteChange:
    """The body of a POST or PATCH; raises Violations."""
    address = fields.text("address", required=is_new or "address" in fields, maximum=320)
    priority = fields.integer("priority")
    if priority is not None and not 0 <= priority <= MAX_PRIORITY:
        fields.note("priority", f"This value should be between 0 and {MAX_PRIORITY}.")
    action = fields.choice("action", RouteAction.values)
    forward_to = fields.texts("forward_to", maximum=254, most=MAX_FORWARD_TO)
    description = fields.text("description", maximum=MAX_DESCRIPTION)
    is_enabled = fields.boolean("is_enabled")
    fields.check()
    return RouteChange(
        address,
        priority,
        None if action is None else RouteAction(action),
        description,
        is_enabled,
        None if forward_to is None else tuple(forward_to),
    )
