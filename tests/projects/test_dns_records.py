"""projects.dns_records against a real DNS server: what is wanted, what is there, and what that means."""

import pytest

from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.dkim_rotation import add_key, check_key
from projects.dns_records import DnsRecord, look, wanted
from projects.domains import create_domain
from projects.models import Domain, Event
from projects.return_path import set_return_path
from projects.setup import ensure_instance
from relay_project.mail.dkim import generate_rsa_key
from tests.projects.conftest import NOW, PEM

pytestmark = pytest.mark.django_db
SPF, DMARC, BIMI = "shop.example.test", "_dmarc.shop.example.test", "default._bimi.shop.example.test"
TLS = "_smtp._tls.shop.example.test"
HOST = "bounces.shop.example.test"
OTHER_PEM = generate_rsa_key()


@pytest.fixture(autouse=True)
def instance(settings):
    settings.INSTANCE_DOMAIN = "relay.test"


def one(domain: Domain, purpose: str) -> DnsRecord:
    return next(record for record in look(domain) if record.purpose == purpose)


def verdict(domain: Domain, purpose: str) -> tuple[str, str]:
    record = one(domain, purpose)
    return str(record.state), record.advice


def test_everything_that_is_wanted_is_named_with_its_value(api, domain, published):
    set_return_path(domain, HOST, NOW)
    add_key(domain, NOW, "new", OTHER_PEM)
    status, answer = api.get(f"/domains/{domain.pk}/dns")
    assert status == 200
    assert [(r["purpose"], r["type"], r["host"], r["name"], r["is_required"]) for r in answer["records"]] == [
        ("dkim", "TXT", "sel._domainkey.shop.example.test", "sel._domainkey", True),
        ("dkim", "TXT", "new._domainkey.shop.example.test", "new._domainkey", True),
        ("return_path", "CNAME", HOST, "bounces", True),
        ("dmarc", "TXT", DMARC, "_dmarc", False),
        ("spf", "TXT", SPF, "@", False),
        ("tls_reports", "TXT", TLS, "_smtp._tls", False),
        ("bimi", "TXT", BIMI, "default._bimi", False),
    ]
    values = {r["host"]: r["value"] for r in answer["records"]}
    assert values[HOST] == "relay.test."
    assert values[SPF] == "v=spf1 include:relay.test ~all"
    assert values["sel._domainkey.shop.example.test"] == answer["domain"]["dkim_txt_value"]
    assert api.get("/domains/shop.example.test/dns")[1]["records"] == answer["records"]


def test_looking_moves_nothing(api, domain, published):
    before = Domain.objects.values().get()
    host = dkim_host(current_key(domain))
    published[host] = [dkim_txt_value(current_key(domain))]
    assert [r["state"] for r in api.get(f"/domains/{domain.pk}/dns")[1]["records"]] == ["ok", *["missing"] * 4]
    assert Domain.objects.values().get() == before
    assert not Event.objects.filter(kind="domain.status.changed").exists()


def test_a_failing_resolver_is_unknown_and_no_error(api, project, published):
    """Lesson C21."""
    domain = create_domain(project, "servfail.test", "servfail", PEM)
    set_return_path(domain, "servfail.servfail.test", NOW)
    status, answer = api.get("/domains/servfail.test/dns")
    states = {r["purpose"]: r["state"] for r in answer["records"]}
    assert status == 200
    assert states["dkim"] == states["return_path"] == states["spf"] == "unknown"


@pytest.mark.parametrize(
    ("texts", "state", "advice"),
    [
        ([], "missing", ""),
        (["v=spf1 -all"], "missing", "What is there is no DKIM record."),
        (["v=DKIM1; k=rsa; p=AAAA"], "wrong", "The record has another public key."),
    ],
)
def test_dkim_records(domain, published, texts, state, advice):
    published["sel._domainkey.shop.example.test"] = texts
    assert verdict(domain, "dkim") == (state, advice)


def test_a_key_that_is_retired_is_wanted_no_more_and_one_that_retires_is(domain, published):
    key = add_key(domain, NOW, "new", OTHER_PEM)
    published[dkim_host(key)] = [dkim_txt_value(key)]
    check_key(key, NOW)
    assert [r.key.selector for r in wanted(domain) if r.key] == ["new", "sel"]
    domain.dkim_keys.filter(selector="sel").update(state="retired")
    assert [r.key.selector for r in wanted(domain) if r.key] == ["new"]


@pytest.mark.parametrize(
    ("texts", "state", "value"),
    [
        ([], "missing", "v=spf1 include:relay.test ~all"),
        (["v=spf1 include:relay.test -all"], "ok", "v=spf1 include:relay.test ~all"),
        (["v=spf1 a mx -all"], "wrong", "v=spf1 a mx include:relay.test -all"),
        (["v=spf1 a ?ALL"], "wrong", "v=spf1 a include:relay.test ?ALL"),
        (["v=spf1 ip4:192.0.2.1 redirect=else.test"], "wrong", "v=spf1 ip4:192.0.2.1 include:relay.test redirect=else.test"),
        (["v=spf1"], "wrong", "v=spf1 include:relay.test"),
        (["v=spf1 a", "v=spf1 mx"], "wrong", "v=spf1 include:relay.test ~all"),
        (["v=spf1 nonsense -all"], "wrong", "v=spf1 include:relay.test ~all"),
    ],
)  # fmt: skip
def test_spf_records_are_completed_not_replaced(domain, published, texts, state, value):
    published[SPF] = texts
    record = one(domain, "spf")
    assert (str(record.state), record.value, list(record.found)) == (state, value, texts)


@pytest.mark.parametrize(
    ("records", "state", "advice"),
    [
        ({}, "missing", ""),
        ({DMARC: ["v=DMARC1; p=reject"]}, "ok", ""),
        ({DMARC: ["v=DMARC1; p=none"]}, "ok", "It asks for nothing yet"),
        ({"_dmarc.example.test": ["v=DMARC1; p=quarantine"]}, "ok", "The policy of example.test holds."),
        ({DMARC: ["v=DMARC1; p=reject", "v=DMARC1; p=none"]}, "wrong", "Several DMARC records"),
        ({DMARC: ["v=DMARC1; p=nonsense"]}, "wrong", "Its p is none of none, quarantine and reject."),
    ],
)
def test_dmarc_policies(domain, published, records, state, advice):
    published.update(records)
    found = verdict(domain, "dmarc")
    assert found[0] == state
    assert found[1].startswith(advice)


@pytest.mark.parametrize(
    ("text", "policy", "state", "advice"),
    [
        (None, "p=reject", "missing", ""),
        ("v=BIMI1; l=https://shop.example/logo.svg", "p=reject", "ok", ""),
        ("v=BIMI1; l=https://shop.example/logo.svg", "p=none", "wrong", "No logo is shown before the DMARC policy"),
        ("v=BIMI1; l=https://shop.example/logo.svg", "p=reject; pct=50", "wrong", "No logo is shown"),
        ("v=BIMI1; l=http://shop.example/logo.svg", "p=reject", "wrong", "Its l= is no https address."),
        ("v=BIMI1; l=; a=", "p=none", "ok", "It says that no logo is wanted."),
    ],
)
def test_bimi_records(domain, published, text, policy, state, advice):
    published[DMARC] = [f"v=DMARC1; {policy}"]
    published[BIMI] = [text] if text else []
    found = verdict(domain, "bimi")
    assert found[0] == state
    assert found[1].startswith(advice)


def test_the_instance_domain_is_not_told_to_include_itself(published):
    assert [str(record.purpose) for record in look(ensure_instance().domain)] == [
        "dkim", "dmarc", "foreign_reports", "tls_reports", "bimi",
    ]  # fmt: skip


RUA, TLS_RUA = "mailto:dmarc@relay.test", "mailto:tls-reports@relay.test"
AUTHORISING = "shop.example.test._report._dmarc.relay.test"
PUBLISHED = f"this installation publishes a record at {AUTHORISING}: tell its staff."


@pytest.mark.parametrize(
    ("text", "value", "advice"),
    [
        ("v=DMARC1; p=reject", f"v=DMARC1; p=reject; rua={RUA}", "With our address in rua= reports are shown here."),
        ("v=DMARC1; p=reject; rua=mailto:x@y.test; sp=none", f"v=DMARC1; p=reject; rua=mailto:x@y.test,{RUA}; sp=none", ""),
        (f"v=DMARC1; p=reject; rua={RUA.upper()}!10m", f"v=DMARC1; p=none; rua={RUA}", f"Reports come only when {PUBLISHED}"),
    ],
)  # fmt: skip
def test_a_policy_is_told_to_report_here(domain, published, text, value, advice):
    published[DMARC] = [text]
    record = one(domain, "dmarc")
    assert (str(record.state), record.value) == ("ok", value)
    assert record.advice.startswith(advice)


def test_reports_about_others_need_the_instances_word(domain, published):
    published[DMARC] = [f"v=DMARC1; p=reject; rua={RUA}"]
    published[AUTHORISING] = ["v=DMARC1;"]
    assert verdict(domain, "dmarc") == ("ok", "")


def test_the_instance_is_told_to_take_reports_about_others(published):
    domain = ensure_instance().domain
    assert verdict(domain, "foreign_reports") == ("missing", "")
    published["*._report._dmarc.relay.test"] = ["v=DMARC1"]
    assert verdict(domain, "foreign_reports") == ("ok", "")


@pytest.mark.parametrize(
    ("texts", "state", "advice", "value"),
    [
        ([], "missing", "", f"v=TLSRPTv1; rua={TLS_RUA}"),
        ([f"v=TLSRPTv1;rua={TLS_RUA}"], "ok", "", f"v=TLSRPTv1; rua={TLS_RUA}"),
        (["v=TLSRPTv1; rua=https://x.test/"], "ok", "Reports go elsewhere.", f"v=TLSRPTv1; rua=https://x.test/,{TLS_RUA}"),
        (["v=TLSRPTv1"], "wrong", "The record names no address in rua=.", f"v=TLSRPTv1; rua={TLS_RUA}"),
        (["v=TLSRPTv1; rua=mailto:a@x.test", "v=TLSRPTv1"], "wrong", "Several records", f"v=TLSRPTv1; rua={TLS_RUA}"),
    ],
)  # fmt: skip
def test_tls_reporting_records(domain, published, texts, state, advice, value):
    published[TLS] = texts
    record = one(domain, "tls_reports")
    assert (str(record.state), record.value) == (state, value)
    assert record.advice.startswith(advice)


def test_return_paths(domain, published):
    domain = set_return_path(domain, HOST, NOW)
    assert verdict(domain, "return_path")[0] == "wrong"
    published[f"MX {HOST}"] = []
    assert verdict(domain, "return_path") == ("missing", f"Nothing is found at {HOST}")
    published[f"CNAME {HOST}"] = ["relay.test."]
    assert verdict(domain, "return_path")[0] == "ok"


def test_what_is_found_is_cut_and_clean(domain, published):
    published[SPF] = ["v=spf1 " + "x" * 3000, *[f"v=spf1 a\0{number}" for number in range(20)]]
    found = one(domain, "spf").found
    assert len(found) == 5
    assert max(map(len, found)) <= 1000
    assert not any("\0" in text for text in found)


def test_a_check_by_hand_looks_for_the_domain_its_keys_and_its_return_path(api, domain, published):
    key = add_key(domain, NOW, "new", OTHER_PEM)
    set_return_path(domain, HOST, NOW)
    assert api.post(f"/domains/{domain.pk}/check")[1]["status"] == "pending"
    published[dkim_host(key)] = [dkim_txt_value(key)]
    published[f"CNAME {HOST}"] = ["relay.test."]
    status, shown = api.post("/domains/shop.example.test/check")
    assert (status, shown["status"], shown["dkim_selector"]) == (200, "active", "new")
    assert (shown["return_path"]["host"], shown["return_path"]["status"]) == (HOST, "active")
    assert api.post(f"/domains/{domain.pk}/check")[1]["status"] == "active", "whatever its status"


def test_only_readers_look_and_only_writers_check(keyed, foreign_api, domain, published):
    path = f"/domains/{domain.pk}"
    assert keyed("domains.read").get(f"{path}/dns")[0] == 200
    assert keyed("domains.read").post(f"{path}/check")[0] == 403
    assert keyed("sends.read").get(f"{path}/dns")[0] == 403
    assert (foreign_api.get(f"{path}/dns")[0], foreign_api.post(f"{path}/check")[0]) == (403, 403)
    assert foreign_api.get(f"/domains/{domain.domain}/dns")[0] == 404
