"""Whatever schemathesis makes of the served document: no 5xx, no answer that the document does not promise.

What the document allows is not called malformed (422), and what it forbids is refused. Bounded by the examples of each
operation. Alice's project is made once for all of them; what an operation does there is rolled back at its end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from accounts.models import User
from projects.models import Membership, Project
from projects.scopes import SCOPES
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from tests.contract.conftest import There, named, objects_of, sending_client, staff_objects
from tests.projects.conftest import PEM

EXAMPLES = 6  # of each operation and mode, beside the boundaries that its schema has
# What is well-formed may be refused by a rule, but not as malformed (422). 411: schemathesis says no length of no body.
POSITIVE_ANSWERS = ["2xx", "400", "401", "403", "404", "409", "411", "429"]

# Rules about several fields at once, or about the time of day, which a schema does not say.
RULES = (
    "A name is too long. It should have 255 characters or less.",
    "A mail cannot be scheduled more than 30 days ahead.",
    "Give either raw or this field, not both.",
    "This content id is used twice.",
    "This is not the From of raw.",
    *("It ", "Its ", "A line has ", "The header "),  # what relay_project.mail.raw says of a message that is none
    "This value is not valid base64.",
    "Give either role or scopes, not both.",
    'At least one allowed IP is required when the "sends.send" scope is enabled.',
    "Either id or domain must be provided.",
    "This domain has this key already.",
    "This is another list than the mail is for.",
    "This value should be a time in the future, in Unix seconds.",
    "This value should be a time in the future.",
    "This value is not a full domain name",  # a domain of a path may be of digits and hyphens for schemathesis
    "An inline attachment needs a content_id.",
    "An attachment with a content_id is inline.",
    "This value is not a host name below the domain",
    "Give either reply_to or the header Reply-To, not both.",
    "Add this domain, or one above it, under Domains",  # a receiving domain must be the project's
    "This project receives the mail of this domain already.",
    "This project does not receive the mail of this domain",
    "There is a route for this address already.",
    "This value is no address such as",  # a route's is one, or a pattern
    "This value names no full domain after its @.",
    "A * may stand at the end",
    "This value should not be blank.",
    "body_html must not be blank if body_text is null",
    "body_text must not be blank if body_html is null",
    "A search needs project_id",
    "Only rerouted mail goes to another queue.",
    "Name the queue that the mail shall go to.",
    "The mail is in the queue ",
    "Only a flush can hurry scheduled mail.",
    "This name is taken.",
    "The end must be after the beginning.",
    "There is no such header whose value could stay.",
    "Only the system project is told of this.",
)
# Of objects that have to be there; a schema has no way to say which are.
MISSING = (
    "There is no source IP with this id.",
    "Project not found",
)
# Their 200 is where a refusal stands: of the message, or of each of them.
REPORTERS = {"/api/console/sends/batch", "/api/console/sends/check"}

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
schemathesis.openapi.format("domain", st.builds("{}.{}.example".format, words, words))
schemathesis.openapi.format("dns-label", words)
schemathesis.openapi.format("list-name", words)
schemathesis.openapi.format("host-below", st.builds("{}.shop.example.test".format, words))
schemathesis.openapi.format("webhook", st.builds("https://hooks.example.com/{}".format, words))
schemathesis.openapi.format("mailbox", words)
schemathesis.openapi.format("pem", st.just(PEM))
schemathesis.openapi.format("email", st.builds("{}@{}.example".format, words, words))
schemathesis.openapi.format("address-or-network", st.sampled_from(["192.0.2.1", "192.0.2.0/24", "2001:db8::/48"]))
schemathesis.openapi.format("day-or-time", st.sampled_from(["2026-11-22", "2026-11-22 09:30:00"]))


class Front:
    """The application as a client on this machine reaches it, with the credentials of the moment."""

    def __init__(self) -> None:
        self.application = get_wsgi_application()
        self.credentials: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self.application({**environ, "REMOTE_ADDR": "127.0.0.1", **self.credentials}, start_response)


front = Front()
config = SchemathesisConfig.from_dict(
    {
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "with-security-parameters": False},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": POSITIVE_ANSWERS},
            "ignored_auth": {
                "enabled": False
            },  # the credentials are the front's, which tests/contract/test_auth.py tries
        },
    }
)
schema = schemathesis.openapi.from_wsgi("/api/openapi.json", front, config=config)
answered: defaultdict[str, set[int]] = defaultdict(set)


@pytest.fixture(autouse=True)
def unlimited(settings: Any) -> None:
    """A minute of schemathesis is more than a minute's requests."""
    settings.REQUESTS_PER_MINUTE = settings.SESSION_REQUESTS_PER_MINUTE = settings.SENDS_PER_SECOND = 1_000_000


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application does not close the test's connection, which is in a transaction, between requests."""
    monkeypatch.setattr(connection, "close_if_unusable_or_obsolete", lambda: None)


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a part of one, of which nothing stays; as Django's own tests have it."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]
    with block:
        yield
        transaction.set_rollback(True)


@dataclass(frozen=True)
class Stage:
    """What makes a request Alice's, by her key or her browser's session, or Sam's of the staff; and what is there."""

    credentials: Mapping[str, dict[str, str]]
    there: There
    staff_there: There


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker: Any) -> Iterator[Stage]:
    """Made once: what is there for every operation costs as much as trying it."""
    with django_db_blocker.unblock(), rolled_back():
        ensure_queues()
        ensure_instance()
        alice, bob = (User.objects.create(login=f"{name}@example.test", name=name) for name in ("Alice", "Bob"))
        sam = User.objects.create(login="sam@example.test", name="Sam", is_staff=True)
        project = Project.objects.create(name="Shop", send_type="transactional")
        for member in (alice, bob):
            Membership.objects.create(project=project, user=member, scopes=list(SCOPES))
        api = sending_client(project, "shop.example.test")
        key = {"HTTP_AUTHORIZATION": f"Bearer {api.token}"}
        there, staff_there = objects_of(api, "shop"), staff_objects(project, sam)
        yield Stage(
            {"key": key, "session": session_of(alice), "staff": session_of(sam)}, there, {**there, **staff_there}
        )


@pytest.fixture(autouse=True)
def as_it_was(stage: Stage) -> Iterator[None]:
    """The next operation finds everything as it was."""
    with rolled_back():
        yield


def session_of(person: User) -> dict[str, str]:
    """What a browser sends after signing in."""
    client = Client()
    client.force_login(person, backend="accounts.sign_in.PasswordBackend")
    request = RequestFactory().get("/")
    token = get_token(request)
    session = client.session.session_key
    cookie = f"{django_settings.SESSION_COOKIE_NAME}={session}; csrftoken={request.META['CSRF_COOKIE']}"
    return {"HTTP_COOKIE": cookie, "HTTP_X_CSRFTOKEN": token}


def way_in(case: schemathesis.Case) -> str:
    """Which of them an operation wants."""
    if case.path.startswith("/api/sudo/"):
        return "staff"
    return "key" if any("apiKey" in way for way in case.operation.definition.raw["security"]) else "session"


@schema.parametrize()
@hypothesis_settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_it_finds_nothing(case: schemathesis.Case, stage: Stage) -> None:
    name_something_that_is_there(case, stage.staff_there if way_in(case) == "staff" else stage.there)
    front.credentials = stage.credentials[way_in(case)]
    response = case.call()
    answered[case.operation.label].add(response.status_code)
    excluded = [positive_data_acceptance] if is_a_rule(response) else []
    is_refused = says_what_is_wrong(case, response) or has_an_empty_text(case) or is_free_text(case)
    excluded += [negative_data_rejection] if is_refused else []
    case.validate_response(response, excluded_checks=excluded)


def has_an_empty_text(case: schemathesis.Case) -> bool:
    """Forms and queries write what is absent so; it need not have the form that the document asks of a text."""
    groups = (case.body, case.query, case.headers)
    return any(value in ("", {}, []) for group in groups if isinstance(group, Mapping) for value in group.values())


def is_free_text(case: schemathesis.Case) -> bool:
    """An import: any text is CSV, and the answer names the lines that could not be used."""
    return case.media_type == "text/csv"


def says_what_is_wrong(case: schemathesis.Case, response: schemathesis.Response) -> bool:
    """Whether a report, which is a 200, refuses the message, or at least one of several."""
    if case.path not in REPORTERS or response.status_code != 200:
        return False
    report = response.json()
    return report["refused"] > 0 if "refused" in report else not report["accepted"]


def is_a_rule(response: schemathesis.Response) -> bool:
    """Whether a 422 is about fields that do not go together, each of which is as the document has it."""
    if response.status_code != 422:
        return False
    return all(violation["message"].startswith(RULES + MISSING) for violation in response.json()["violations"])


def test_every_operation_was_let_in() -> None:
    """Nothing is found, either, where everything is turned away at the door."""
    refused = [label for label, statuses in answered.items() if statuses <= {401, 403}]
    assert refused == []


def name_something_that_is_there(case: schemathesis.Case, there: There) -> None:
    """Every other well-formed path leads to an object, so that more than the 404 is tried."""
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    if path is None or path.mode is not GenerationMode.POSITIVE:
        return
    for name in case.path_parameters:
        place = named(case.path, name)
        if place in there and crc32(repr((case.body, case.query)).encode("utf-8", "replace")) % 2:
            case.path_parameters[name] = there[place]
