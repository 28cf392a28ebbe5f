"""Domains over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.dkim_keys import MAX_PEM, current_key
from projects.domain_status import verify
from projects.domains import create_domain, delete_domain, domains_of, find_domain
from projects.endpoint import Endpoint
from projects.models import Domain
from projects.objects import domain_object, domain_objects
from projects.scopes import Scope, by_method
from relay_project.web.pagination import read_number, read_page, read_text

MAX_NAME = 1000  # characters read of a name; the rule says what a domain may be


class DomainsView(Endpoint):
    """`/domains`."""

    required_scope = by_method(GET=Scope.DOMAINS_READ, POST=Scope.DOMAINS_WRITE, DELETE=Scope.DOMAINS_WRITE)

    def get(self, request: Request) -> Response:
        """A page of domains, the newest first."""
        page = read_page(request.query_params)
        found = domains_of(self.project, read_text(request.query_params, "search"))
        if page.before_id is not None:
            found = found.filter(pk__lt=page.before_id)
        return Response(domain_objects(found[page.offset : page.offset + page.limit]))

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

    def delete(self, request: Request) -> Response:
        """Forget a domain, named by id or name in the query or the body."""
        delete_domain(_named_domain(self, request), self.caller)
        return Response({})


class DomainByView(Endpoint):
    """`/domains/by`."""

    required_scope = by_method(GET=Scope.DOMAINS_READ)

    def get(self, request: Request) -> Response:
        """One domain, named by id or name in the query or the body."""
        domain = _named_domain(self, request)
        return Response(domain_object(domain, current_key(domain)))


class VerifyDomainView(Endpoint):
    """`/domains/verify`."""

    required_scope = by_method(POST=Scope.DOMAINS_WRITE)

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
