"""One domain over the API, named in the path by its id or its name, and its keys. The contract's own calls are in
`projects.api.domains`."""

from datetime import UTC, datetime
from types import EllipsisType

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.schemas import MAX_NAME
from projects.dkim_keys import MAX_PEM, current_key, keys_of
from projects.dkim_rotation import add_key, check_key, drop_key, find_key
from projects.domains import NOT_FOUND, delete_domain, domain_named
from projects.endpoint import Endpoint
from projects.models import DkimAlgorithm, Domain
from projects.objects import dkim_key_object, domain_object
from projects.put_domain import put_domain
from projects.return_path import set_return_path
from projects.scopes import Scope, by_method
from relay_project.web.errors import ApiError
from relay_project.web.fields import Fields
from relay_project.web.pagination import read_path_id


class DomainView(Endpoint):
    """`/domains/{id}`, which may be a name."""

    required_scope = by_method(
        GET=Scope.DOMAINS_READ, PUT=Scope.DOMAINS_WRITE, PATCH=Scope.DOMAINS_WRITE, DELETE=Scope.DOMAINS_WRITE
    )

    def get(self, request: Request, domain_id: str) -> Response:
        """One domain."""
        return _answer(domain_of_path(self, domain_id))

    def put(self, request: Request, domain_id: str) -> Response:
        """The domain as the body describes it, made where it is missing."""
        fields = self.fields()
        selector, pem = fields.text("dkim_selector"), fields.text("dkim_private_key", maximum=MAX_PEM)
        return_path = _read_return_path(fields)
        fields.check()
        name = domain_of_path(self, domain_id).domain if _is_id(domain_id) else domain_id
        now = datetime.now(UTC)
        return _answer(
            put_domain(self.project, name, now, selector or None, pem or None, self.caller, return_path=return_path)
        )

    def patch(self, request: Request, domain_id: str) -> Response:
        """Another return path, or none."""
        domain = domain_of_path(self, domain_id)
        fields = self.fields()
        return_path = _read_return_path(fields)
        fields.check()
        if not isinstance(return_path, EllipsisType):
            domain = set_return_path(domain, return_path, datetime.now(UTC), self.caller)
        return _answer(domain)

    def delete(self, request: Request, domain_id: str) -> Response:
        """Forget it."""
        delete_domain(domain_of_path(self, domain_id), self.caller)
        return Response({})


class DkimKeysView(Endpoint):
    """`/domains/{id}/dkim-keys`."""

    required_scope = by_method(GET=Scope.DOMAINS_READ, POST=Scope.DOMAINS_WRITE)

    def get(self, request: Request, domain_id: str) -> Response:
        """All keys: those that sign first, then those that wait, retire and are retired."""
        return Response([dkim_key_object(key) for key in keys_of(domain_of_path(self, domain_id))])

    def post(self, request: Request, domain_id: str) -> Response:
        """A new key, which signs once its record is found."""
        domain = domain_of_path(self, domain_id)
        fields = self.fields()
        selector, pem = fields.text("dkim_selector"), fields.text("dkim_private_key", maximum=MAX_PEM)
        algorithm = DkimAlgorithm(fields.choice("algorithm", DkimAlgorithm.values) or DkimAlgorithm.RSA)
        fields.check()
        return Response(
            dkim_key_object(
                add_key(domain, datetime.now(UTC), selector or None, pem or None, algorithm, caller=self.caller)
            )
        )


class DkimKeyView(Endpoint):
    """`/domains/{id}/dkim-keys/{key}`."""

    required_scope = by_method(DELETE=Scope.DOMAINS_WRITE)

    def delete(self, request: Request, domain_id: str, dkim_key: str) -> Response:
        """Give a key up."""
        key = find_key(domain_of_path(self, domain_id), read_path_id(dkim_key))
        drop_key(key, datetime.now(UTC), self.caller)
        return Response([])


class VerifyDkimKeyView(Endpoint):
    """`/domains/{id}/dkim-keys/{key}/verify`."""

    required_scope = by_method(POST=Scope.DOMAINS_WRITE)

    def post(self, request: Request, domain_id: str, dkim_key: str) -> Response:
        """Look for a waiting key's record now."""
        key = find_key(domain_of_path(self, domain_id), read_path_id(dkim_key))
        return Response(dkim_key_object(check_key(key, datetime.now(UTC))[0]))


def domain_of_path(view: Endpoint, domain_id: str) -> Domain:
    """The project's domain with this id or name; raises ApiError 404, and 403 for the id of another project's."""
    if _is_id(domain_id):
        return view.entity(Domain.objects.select_related("project"), domain_id)
    domain = domain_named(view.project, domain_id[:MAX_NAME].replace("\0", ""))
    if domain is None:
        raise ApiError(404, NOT_FOUND)
    return domain


def _read_return_path(fields: Fields) -> str | EllipsisType | None:
    """The field `return_path`: null and "" are none, `...` stands for a body that does not say."""
    host = fields.text("return_path", maximum=MAX_NAME)
    return (host or None) if "return_path" in fields.data else ...


def _is_id(domain_id: str) -> bool:
    return domain_id.isascii() and domain_id.isdigit()


def _answer(domain: Domain) -> Response:
    return Response(domain_object(domain, current_key(domain)))
