# ruff: noqa: F811 — pytest hands fixtures over by name
"""Mail for a project: which address is whose, what is taken, and what an examined mail's event says."""

from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from accounts.models import AuditEntry
from projects.models import Domain, Event, Project
from relay_project.mail.reports.model import ReportKind
from relay_project.web.errors import ApiError, Violations
from sending.inbound.read import Reader
from sending.inbound.routing import examine as examining
from sending.inbound.routing import match
from sending.inbound.routing.change import RouteChange, add_domain, add_route, change_route, remove_domain
from sending.inbound.routing.dns import check_mx
from sending.inbound.routing.examine import MAX_TRIES, Examiner, measure
from sending.inbound.routing.find import find_received
from sending.inbound.routing.match import receives, rule_of
from sending.inbound.routing.patterns import InvalidPattern, fits, fold, read_pattern
from sending.models import InboundMail, ReceivedMail, ReceivingDomain, RouteAction, UnexaminedMail
from tests.projects.conftest import alice, bob, charlie, foreign, project, published  # noqa: F401 — fixtures
from tests.sending.inbound.reports import came, delivered, token
from tests.sending.scene import Scene

MAIL = b"From: Dora <dora@example.test>\r\nTo: support@in.shop.example.test\r\nSubject: Hi\r\n\r\nHello\r\n"


@pytest.fixture
def shop(db: None, project: Project) -> Project:
    """May send from shop.example.test, and receives for in.shop.example.test."""
    Domain.objects.create(project=project, domain="shop.example.test", status="active")
    add_domain(project, "In.Shop.example.test.")
    return project


@pytest.fixture
def elsewhere(foreign: Project) -> Project:
    """Charlie's, which may send from the same name."""
    Domain.objects.create(project=foreign, domain="shop.example.test", status="active")
    return foreign


def route(project: Project, local: str, priority: int = 0, action: RouteAction = RouteAction.EVENT) -> Any:
    return add_route(project, RouteChange(f"{local}@in.shop.example.test", priority, action))


# --- Patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "local", "does"),
    [
        ("support", "Support", True), ("support", "support+7", False), ("support+*", "support+7", True),
        ("support+*", "support", False), ("*", "anything", True), ("a.*", "a.b", True), ("grüße", "GRÜSSE", True),
        ("STRASSE", "straße", True),
    ],
)  # fmt: skip
def test_a_pattern_fits_without_regard_to_case(pattern: str, local: str, does: bool) -> None:
    """Lesson C8."""
    assert fits(read_pattern(f"{pattern}@x.test")[0], fold(local)) is does


@pytest.mark.parametrize(
    "text",
    ["", "support", "@x.test", "a*b@x.test", "**@x.test", "a b@x.test", "a@localhost", "a\0@x.test", "x" * 65 + "@x.test",
     '"a"@x.test', "a@b@x.test", "a\n@x.test"],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidPattern):
        read_pattern(text)


@given(st.text(max_size=80))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    for whole in (text, f"{text}@x.test"):
        try:
            pattern, _ = read_pattern(whole)
        except InvalidPattern:
            continue
        assert read_pattern(f"{pattern}@x.test")[0] == pattern


# --- Whose address -------------------------------------------------------------------------------------------------


def test_the_first_route_by_priority_and_age_decides(shop: Project) -> None:
    route(shop, "*", 100)
    special = route(shop, "support+*", 10)
    route(shop, "support+x*", 10, RouteAction.DROP)
    assert rule_of("support+x1@IN.shop.example.test").route_id == special.pk  # type: ignore[union-attr]
    change_route(special, RouteChange(priority=200))
    assert rule_of("support+x1@in.shop.example.test").action is RouteAction.DROP  # type: ignore[union-attr]
    assert rule_of("else@in.shop.example.test").pattern == "*"  # type: ignore[union-attr]


def test_an_address_without_a_route_and_a_rejected_one_are_refused(shop: Project) -> None:
    route(shop, "support")
    route(shop, "no-*", action=RouteAction.REJECT)
    assert receives("support@in.shop.example.test")
    assert receives('"support"@in.shop.example.test')
    for other in ("sales", "no-reply", ""):
        assert not receives(f"{other}@in.shop.example.test")
    for other in ("support@shop.example.test", "support@x.in.shop.example.test", "support", "support@", "@", "a@\0"):
        assert not receives(other)


def test_what_is_known_of_a_domain_is_known_for_a_moment(
    shop: Project, django_assert_num_queries: Any, settings: Any
) -> None:
    route(shop, "support")
    with django_assert_num_queries(2):
        for _ in range(5):
            assert receives("support@in.shop.example.test")
            assert not receives("a@unknown.test")


@pytest.mark.parametrize("end", ["suspended", "deleted", "archived", "disabled"])
def test_nothing_is_received_without_the_proof_that_the_domain_is_the_projects(shop: Project, end: str) -> None:
    made = route(shop, "support")
    assert receives("support@in.shop.example.test")
    if end == "suspended":
        Domain.objects.update(status="suspended")
    elif end == "deleted":
        Domain.objects.all().delete()
    elif end == "archived":
        Project.objects.filter(pk=shop.pk).update(archived_at=timezone.now())
    else:
        change_route(made, RouteChange(is_enabled=False))
    match.forget()
    assert not receives("support@in.shop.example.test")


# --- Domains -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shop", "full domain name"), ("example.test", "verify it first"), ("xshop.example.test", "verify it first"),
        ("relay.test", "reserved"), ("in.shop.example.test", "already"), ("bounces.shop.example.test", "Bounces come back"),
        ("a\0b.test", "full domain name"),
    ],
)  # fmt: skip
def test_only_a_domain_of_the_project_is_received(shop: Project, name: str, says: str) -> None:
    Domain.objects.update(return_path="bounces.shop.example.test")
    with pytest.raises(Violations, match=says):
        add_domain(shop, name)


def test_no_two_projects_receive_the_mail_of_a_domain(shop: Project, elsewhere: Project) -> None:
    with pytest.raises(Violations, match="Another project"):
        add_domain(elsewhere, "in.shop.example.test")
    add_domain(elsewhere, "other.shop.example.test")
    with pytest.raises(Violations, match="does not receive"):
        add_route(elsewhere, RouteChange("support@in.shop.example.test"))


def test_who_has_lost_a_domain_gives_way_to_who_has_it(shop: Project, elsewhere: Project) -> None:
    Domain.objects.filter(project=shop).update(status="suspended")
    add_domain(elsewhere, "in.shop.example.test", catch_all=True)
    assert rule_of("a@in.shop.example.test").project_id == elsewhere.pk  # type: ignore[union-attr]
    assert AuditEntry.objects.get(action="receiving_domain.lost").project_id == shop.pk


def test_a_domain_and_its_routes_are_bounded(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sending.inbound.routing.change.MAX_ROUTES", 1)
    monkeypatch.setattr("sending.inbound.routing.change.MAX_DOMAINS", 1)
    route(shop, "a")
    with pytest.raises(ApiError, match="routes"):
        route(shop, "b")
    with pytest.raises(ApiError, match="domains"):
        add_domain(shop, "b.shop.example.test")
    monkeypatch.setattr("sending.inbound.routing.change.MAX_ROUTES", 9)
    with pytest.raises(Violations, match="already"):
        route(shop, "A")


def test_its_mx_is_looked_for(shop: Project, published: dict[str, list[str]], settings: Any) -> None:
    row = ReceivingDomain.objects.get()
    name, now = "MX in.shop.example.test", timezone.now()
    for found, says in (
        ([], "no MX record"), (["10 mx.other.test."], "leads elsewhere: mx.other.test"), (["10 relay.test."], ""),
        (["5 mx.other.test.", "10 relay.test."], "comes before ours"),
    ):  # fmt: skip
        published[name] = found
        check_mx(row, now)
        assert says in row.mx_error_message if says else row.mx_error_message == ""
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    row.mx_checked_at = None
    assert check_mx(row, now).mx_checked_at is None, "lesson C21"


# --- From the SMTP server's table to the event ---------------------------------------------------------------------


def test_a_mail_becomes_a_row_and_an_event_of_its_project(shop: Project, published: dict[str, list[str]]) -> None:
    made = route(shop, "support*")
    published["example.test"] = ["v=spf1 ip4:192.0.2.0/24 -all"]
    published["_dmarc.example.test"] = ["v=DMARC1; p=reject"]
    mail_id = came("support+7@in.shop.example.test", octets=MAIL, mail_from="dora@example.test")
    assert Reader().look() == 1
    assert InboundMail.objects.get(pk=mail_id).state == "handed on"
    assert Examiner().look() == 1
    assert Examiner().look() == 0
    [row] = find_received(shop.pk, timezone.now(), 10)
    assert (row.route_id, row.recipients, row.subject) == (made.pk, ["support+7@in.shop.example.test"], "Hi")
    assert row.authentication["spf"]["result"] == row.authentication["dmarc"]["result"] == "pass"
    assert {"no-date", "no-message-id", "no-tls"} <= set(row.hints)
    event = Event.objects.get(kind="inbound.received")
    assert (event.project_id, event.subject_kind, event.subject_id) == (shop.pk, "inbound", row.pk)
    told = event.payload["inbound"]
    assert told["envelope"] == {"from": "dora@example.test", "to": ["support+7@in.shop.example.test"]}
    assert (told["message"]["text"], told["message"]["from"]) == (
        "Hello\n", [{"address": "dora@example.test", "name": "Dora"}],
    )  # fmt: skip


def test_a_forged_from_fails_and_a_dead_resolver_says_nothing(
    shop: Project, published: dict[str, list[str]], settings: Any
) -> None:
    route(shop, "*")
    published["example.test"] = ["v=spf1 -all"]
    published["_dmarc.example.test"] = ["v=DMARC1; p=quarantine"]
    came("a@in.shop.example.test", octets=MAIL, mail_from="dora@example.test")
    Reader().look()
    Examiner().look()
    row = ReceivedMail.objects.get()
    assert row.authentication["dmarc"] == {"result": "fail", "domain": "example.test", "policy": "quarantine"}
    assert {"spf-fail", "dmarc-fail"} <= set(row.hints)
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    came("b@in.shop.example.test", octets=MAIL, mail_from="dora@example.test")
    Reader().look()
    Examiner().look()
    row = ReceivedMail.objects.order_by("-id")[0]
    assert row.authentication["spf"]["result"] == row.authentication["dmarc"]["result"] == "temperror", "lesson C21"
    assert "spf-fail" not in row.hints


def test_each_recipient_goes_its_own_way(shop: Project, published: dict[str, list[str]]) -> None:
    route(shop, "a*")
    route(shop, "b")
    route(shop, "c", action=RouteAction.DROP)
    names = ("a1", "a2", "b", "c")
    came(*(f"{name}@in.shop.example.test" for name in names), octets=MAIL)
    Reader().look()
    assert sorted(len(row.recipients) for row in ReceivedMail.objects.all()) == [1, 2]
    assert UnexaminedMail.objects.count() == 2


def test_what_a_route_has_is_no_report_to_us(scene: Scene, shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a customer's mailbox gets: the token in it was meant for us."""
    route(shop, "*")
    _, job = delivered(scene, "ann@one.example")
    octets = b"X: " + token(job).encode() + b"\r\n\r\n"
    mail_id = came("a@in.shop.example.test", octets=octets)
    both = came("a@in.shop.example.test", token(job), octets=octets)
    Reader().look()
    assert InboundMail.objects.get(pk=mail_id).kind == ReportKind.NONE
    assert InboundMail.objects.get(pk=both).state == "handed on"
    assert ReceivedMail.objects.count() == 2


def test_what_an_examiner_dies_with_is_told_all_the_same(
    shop: Project, monkeypatch: pytest.MonkeyPatch, published: dict[str, list[str]]
) -> None:
    route(shop, "*")

    def dies(mail: Any) -> Any:
        raise KeyboardInterrupt

    came("a@in.shop.example.test", octets=MAIL)
    Reader().look()
    with monkeypatch.context() as patch:
        patch.setattr(examining, "examine", dies)
        for _ in range(MAX_TRIES):
            with pytest.raises(KeyboardInterrupt):
                Examiner().look()
            assert Examiner().look() == 0, "leased"
            UnexaminedMail.objects.update(due_at=timezone.now())
        assert Examiner().look() == 1
    assert ReceivedMail.objects.get().authentication["spf"]["result"] == "temperror"
    assert Event.objects.filter(kind="inbound.received").count() == 1


def test_a_domain_that_goes_leaves_its_mail(shop: Project, published: dict[str, list[str]]) -> None:
    route(shop, "*")
    came("a@in.shop.example.test", octets=MAIL)
    Reader().look()
    measure(timezone.now())
    assert REGISTRY.get_sample_value("relay_inbound_unexamined") == 1
    remove_domain(ReceivingDomain.objects.get())
    Examiner().look()
    assert ReceivedMail.objects.get().subject == "Hi"
    assert not receives("a@in.shop.example.test")
