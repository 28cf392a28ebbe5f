"""One domain over the API, named in the path by its id or its name, and its keys. The contract's own calls are in
`projects.api.domains`."""

from datetime import UTC, datetime
from types import EllipsisType

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.schemas import (
    DKIM_KEY,
    DOMAIN,
    DOMAIN_CHANGE,
    DOMAIN_DESCRIBED,
    DOMAIN_DNS,
    EXAMPLE_DKIM_KEY,
    EXAMPLE_DOMAIN,
    EXAMPLE_DOMAIN_DNS,
    MAX_NAME,
    NEW_DKIM_KEY,
)
from projects.dkim_keys import MAX_PEM, current_key, keys_of
from projects.dkim_rotation import (
    KEY_NOT_FOUND,
    NOT_WAITING,
    ONE_WAITS,
    ONLY_ONE,
    STILL_NEEDED,
    add_key,
    check_key,
    drop_key,
    find_key,
)
from projects.dns_records import dns_record_object, look
from projects.domain_check import check_now
from projects.domains import NOT_FOUND, delete_domain, domain_named
from projects.endpoint import Endpoint
from projects.models import DkimAlgorithm, Domain
from projects.objects import dkim_key_object, domain_object, timestamp
from projects.put_domain import put_domain
from projects.return_path import set_return_path
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.fields import Fields
from relay_project.web.pagination import read_path_id
from relay_project.web.schema import EMPTY_LIST, listed

ABSENT = {404: (NOT_FOUND,)}
NO_KEY = (NOT_FOUND, KEY_NOT_FOUND)


class DomainView(Endpoint):
    """`/domains/{domain}`, which is its id or its name."""

    section = "Domains"
    required_scope = by_method(
        GET=Scope.DOMAINS_READ, PUT=Scope.DOMAINS_WRITE, PATCH=Scope.DOMAINS_WRITE, DELETE=Scope.DOMAINS_WRITE
    )

    @describe("getDomainByPath", "Get a domain by its path", answer=DOMAIN, sample=EXAMPLE_DOMAIN, refusals=ABSENT)
    def get(self, request: Request, domain: str) -> Response:
        """One domain."""
        return _answer(domain_of_path(self, domain))

    @describe(
        "putDomain",
        "Describe a domain",
        "Registered where it is missing; a second time changes nothing. Another selector or key begins a rotation.",
        body=DOMAIN_DESCRIBED,
        example={"return_path": "bounces.example.com"},
        answer=DOMAIN,
        sample=EXAMPLE_DOMAIN,
        refusals={**ABSENT, 400: (ONE_WAITS,)},
    )
    def put(self, request: Request, domain: str) -> Response:
        """The domain as the body describes it, made where it is missing."""
        fields = self.fields()
        selector, pem = fields.text("dkim_selector"), fields.text("dkim_private_key", maximum=MAX_PEM)
        return_path = _read_return_path(fields)
        fields.check()
        name = domain_of_path(self, domain).domain if _is_id(domain) else domain
        now = datetime.now(UTC)
        return _answer(
            put_domain(self.project, name, now, selector or None, pem or None, self.caller, return_path=return_path)
        )

    @describe(
        "updateDomain",
        "Set a domain's return path",
        "Used once its records are found.",
        body=DOMAIN_CHANGE,
        example={"return_path": "bounces.example.com"},
        answer=DOMAIN,
        sample=EXAMPLE_DOMAIN,
        refusals=ABSENT,
    )
    def patch(self, request: Request, domain: str) -> Response:
        """Another return path, or none."""
        found = domain_of_path(self, domain)
        fields = self.fields()
        return_path = _read_return_path(fields)
        fields.check()
        if not isinstance(return_path, EllipsisType):
            found = set_return_path(found, return_path, datetime.now(UTC), self.caller)
        return _answer(found)

    @describe(
        "deleteDomainByPath",
        "Forget a domain by its path",
        "Its mail stays.",
        refusals={**ABSENT, 400: ("Domain deletion failed: …",)},
    )
    def delete(self, request: Request, domain: str) -> Response:
        """Forget it."""
        delete_domain(domain_of_path(self, domain), self.caller)
        return Response({})


class DnsView(Endpoint):
    """`/domains/{domain}/dns`."""

    section = "Domains"
    required_scope = by_method(GET=Scope.DOMAINS_READ)

    @describe(
        "getDomainDns",
        "Check a domain's DNS",
        "Every record that is needed or advised, and what DNS says of it now. It moves no status.",
        answer=DOMAIN_DNS,
        sample=EXAMPLE_DOMAIN_DNS,
        refusals=ABSENT,
    )
    def get(self, request: Request, domain: str) -> Response:
        """What should be in DNS, and what is."""
        found = domain_of_path(self, domain)
        now = datetime.now(UTC)
        records = [dns_record_object(record) for record in look(found)]
        shown = domain_object(found, current_key(found))
        return Response({"domain": shown, "records": records, "checked_at": timestamp(now)})


class CheckDomainView(Endpoint):
    """`/domains/{domain}/check`."""

    section = "Domains"
    required_scope = by_method(POST=Scope.DOMAINS_WRITE)

    @describe(
        "checkDomain",
        "Look for a domain's records now",
        "Whatever its status: for the domain, for keys that wait, and for its return path.",
        answer=DOMAIN,
        sample=EXAMPLE_DOMAIN,
        refusals=ABSENT,
    )
    def post(self, request: Request, domain: str) -> Response:
        """The domain after looking."""
        return _answer(check_now(domain_of_path(self, domain), datetime.now(UTC)))


class DkimKeysView(Endpoint):
    """`/domains/{domain}/dkim-keys`."""

    section = "Domains"
    required_scope = by_method(GET=Scope.DOMAINS_READ, POST=Scope.DOMAINS_WRITE)

    @describe(
        "listDkimKeys",
        "List a domain's DKIM keys",
        answer=listed(DKIM_KEY),
        sample=[EXAMPLE_DKIM_KEY],
        refusals=ABSENT,
    )
    def get(self, request: Request, domain: str) -> Response:
        """All keys: those that sign first, then those that wait, retire and are retired."""
        return Response([dkim_key_object(key) for key in keys_of(domain_of_path(self, domain))])

    @describe(
        "createDkimKey",
        "Add a DKIM key",
        "It signs once its record is found, in place of the key of its algorithm.",
        body=NEW_DKIM_KEY,
        example={"algorithm": "rsa"},
        answer=DKIM_KEY,
        sample=EXAMPLE_DKIM_KEY,
        refusals={**ABSENT, 400: (ONE_WAITS,)},
    )
    def post(self, request: Request, domain: str) -> Response:
        """A new key, which signs once its record is found."""
        found = domain_of_path(self, domain)
        fields = self.fields()
        selector, pem = fields.text("dkim_selector"), fields.text("dkim_private_key", maximum=MAX_PEM)
        algorithm = DkimAlgorithm(fields.choice("algorithm", DkimAlgorithm.values) or DkimAlgorithm.RSA)
        fields.check()
        return Response(
            dkim_key_object(
                add_key(found, datetime.now(UTC), selector or None, pem or None, algorithm, caller=self.caller)
            )
        )


class DkimKeyView(Endpoint):
    """`/domains/{domain}/dkim-keys/{id}`."""

    section = "Domains"
    required_scope = by_method(DELETE=Scope.DOMAINS_WRITE)

    @describe(
        "deleteDkimKey",
        "Give a DKIM key up",
        "A `pending` or `retired` one is deleted, an `active` one retires.",
        answer=EMPTY_LIST,
        refusals={400: (ONLY_ONE, STILL_NEEDED), 404: NO_KEY},
    )
    def delete(self, request: Request, domain: str, key_id: str) -> Response:
        """Give a key up."""
        key = find_key(domain_of_path(self, domain), read_path_id(key_id))
        drop_key(key, datetime.now(UTC), self.caller)
        return Response([])


class VerifyDkimKeyView(Endpoint):
    """`/domains/{domain}/dkim-keys/{id}/verify`."""

    section = "Domains"
    required_scope = by_method(POST=Scope.DOMAINS_WRITE)

    @describe(
        "verifyDkimKey",
        "Look for a new key's record",
        "The key is `active` afterwards, or says in `error_message` why not.",
        answer=DKIM_KEY,
        sample={**EXAMPLE_DKIM_KEY, "state": "active"},
        refusals={400: (NOT_WAITING,), 404: NO_KEY},
    )
    def post(self, request: Request, domain: str, key_id: str) -> Response:
        """Look for a waiting key's record now."""
        key = find_key(domain_of_path(self, domain), read_path_id(key_id))
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
