"""Domains over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.schemas import BY_ID_OR_NAME, DOMAIN, EXAMPLE_DOMAIN, MAX_NAME, NAMED_DOMAIN, NEW_DOMAIN
from projects.dkim_keys import MAX_PEM, current_key
from projects.domain_status import NOT_PENDING, verify
from projects.domains import EXISTS, FOREIGN, NEITHER, NOT_FOUND, create_domain, delete_domain, domains_of, find_domain
from projects.endpoint import Endpoint
from projects.models import Domain
from projects.objects import domain_object, domain_objects
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.pagination import read_number, read_page, read_text
from relay_project.web.schema import listed, page, text

NOT_NAMED = {400: (NOT_FOUND, FOREIGN), 422: (f"id: {NEITHER}",)}


class DomainsView(Endpoint):
    """`/domains`."""

    section = "Domains"
    required_scope = by_method(GET=Scope.DOMAINS_READ, POST=Scope.DOMAINS_WRITE, DELETE=Scope.DOMAINS_WRITE)

    @describe(
        "listDomains",
        "List domains",
        "The newest first.",
        query={**page(), "search": text("A part of the name.")},
        answer=listed(DOMAIN),
        sample=[EXAMPLE_DOMAIN],
    )
    def get(self, request: Request) -> Response:
        """A page of domains, the newest first."""
        page = read_page(request.query_params)
        found = domains_of(self.project, read_text(request.query_params, "search"))
        if page.before_id is not None:
            found = found.filter(pk__lt=page.before_id)
        return Response(domain_objects(found[page.offset : page.offset + page.limit]))

    @describe(
        "createDomain",
        "Register a domain",
        "Makes an RSA-2048 key for it, whose TXT record is to be published.",
        body=NEW_DOMAIN,
        example={"domain": "example.com"},
        answer=DOMAIN,
        sample={**EXAMPLE_DOMAIN, "status": "pending"},
        refusals={400: (EXISTS,)},
    )
    def post(self, request: Request) -> Response:
        """Register a domain."""
        fields = self.fields()
        name = fields.text("domain", required=True, maximum=MAX_NAME)
        selector = fields.text("dkim_selector")
        pem = fields.text("dkim_private_key", maximum=MAX_PEM)
        fields.check()
        domain = create_domain(
            self.project, name or "", selector or None, pem or None, now=datetime.now(UTC), caller=self.caller
        )
        return Response(domain_object(domain, current_key(domain)))

    @describe(
        "deleteDomain",
        "Forget a domain",
        "Its mail stays. The domain may also be named in a JSON body.",
        query=BY_ID_OR_NAME,
        refusals=NOT_NAMED,
    )
    def delete(self, request: Request) -> Response:
        """Forget a domain, named by id or name in the query or the body."""
        delete_domain(_named_domain(self, request), self.caller)
        return Response({})


class DomainByView(Endpoint):
    """`/domains/by`."""

    section = "Domains"
    required_scope = by_method(GET=Scope.DOMAINS_READ)

    @describe(
        "getDomain",
        "Get a domain",
        "By id or by name, which may also stand in a JSON body.",
        query=BY_ID_OR_NAME,
        answer=DOMAIN,
        sample=EXAMPLE_DOMAIN,
        refusals=NOT_NAMED,
    )
    def get(self, request: Request) -> Response:
        """One domain, named by id or name in the query or the body."""
        domain = _named_domain(self, request)
        return Response(domain_object(domain, current_key(domain)))


class VerifyDomainView(Endpoint):
    """`/domains/verify`."""

    section = "Domains"
    required_scope = by_method(POST=Scope.DOMAINS_WRITE)

    @describe(
        "verifyDomain",
        "Verify a domain",
        "Looks for the record in DNS now. The domain is `active` afterwards, or says in `dkim_error_message` why not.",
        body=NAMED_DOMAIN,
        example={"domain": "example.com"},
        answer=DOMAIN,
        sample=EXAMPLE_DOMAIN,
        refusals={400: (NOT_FOUND, FOREIGN, NOT_PENDING), 500: ("DKIM verification failed due an internal error: …",)},
    )
    def post(self, request: Request) -> Response:
        """Look for the domain's record in DNS now."""
        domain = verify(_named_domain(self, request), datetime.now(UTC))
        return Response(domain_object(domain, current_key(domain)))


def _named_domain(view: Endpoint, request: Request) -> Domain:
    """Both dialects: `id` or `domain` in the query or in the body, also of a GET."""
    query = request.query_params
    if query.get("id") or query.get("domain"):
        return find_domain(view.project, read_number(query, "id"), read_text(query, "domain", MAX_NAME))
    fields = view.fields()
    domain_id, name = fields.integer("id"), fields.text("domain", maximum=MAX_NAME)
    fields.check()
    return find_domain(view.project, domain_id, name)
