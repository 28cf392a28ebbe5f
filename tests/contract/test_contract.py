"""The wire contract, section by section, as a client of the compatible product meets it.

The sections are those of the contract's reference: §1.1 transport, §1.2 authentication, §1.3 scopes, §1.4 errors, §1.5
rates, §1.6 idempotency, §1.7 limits, §1.8 objects, §1.9 endpoints, §5 domains, §6 projects, §9 states, §12 two dialects.
Where the reference marks a defect, what is right stands here. Tables are (request → status, message).
"""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from projects.models import ApiKey, Domain, Project
from projects.scopes import SCOPES
from sending.models import AttemptStatus, RecipientStatus, RecipientType
from tests.contract.conftest import There, made
from tests.sending.api.conftest import Api, mail

pytestmark = pytest.mark.django_db

BASE = "/api/console"
FORM = "application/x-www-form-urlencoded"
BLANK = "This value should not be blank."
PLAIN = {"from": "me@shop.example.test", "to": "dora@example.test", "subject": "Hello", "body_text": "Hi."}


def told(response: Any) -> tuple[int, str]:
    """Status and message of a refusal, whose body has the one shape."""
    body = response.json()
    assert body["status"] == response.status_code
    return response.status_code, body["message"]


# --- §1.1 Transport ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "raw", "wanted"),
    [
        ("text/plain", b"{}", (415, "Unsupported format.")),
        ("application/xml", b"<a/>", (415, "Unsupported format.")),
        ("application/json", b"{", (400, 'Request payload contains invalid "json" data.')),
        ("application/json", b"", (422, f"from: {BLANK}")),
        ("application/json", b'{"from": 5}', (422, "from: This value should be of type array|string.")),
    ],
)
def test_bodies_are_json_or_forms(api: Api, content_type: str, raw: bytes, wanted: tuple[int, str]) -> None:
    """§1.1: unknown content type 415, invalid JSON 400, empty body 422, wrong JSON type 422."""
    assert told(api("POST", "/sends", raw, content_type=content_type)) == wanted


def test_forms_are_read_and_unknown_fields_are_ignored(api: Api) -> None:
    """§1.1: form-encoded bodies are also accepted; unknown body fields are ignored."""
    raw = b"from=me%40shop.example.test&to=dora%40example.test&body_text=Hi&unheard=of"
    assert api("POST", "/sends", raw, content_type=FORM).status_code == 200
    assert api.post("/sends", {**PLAIN, "unheard": "of"}).status_code == 200


def test_success_is_200_and_deletes_answer_an_empty_list_but_for_domains(api: Api, there: There) -> None:
    """§1.1: always 200; deletes return `[]`, except domain delete, which returns `{}`."""
    for path in (
        "/api-keys/{}".format(there["api-keys/{key_id}"]),
        "/webhooks/{}".format(there["webhooks/{webhook_id}"]),
    ):
        assert (api("DELETE", path).status_code, api("DELETE", path).status_code) == (200, 404)
    suppressed = there["suppressions/{suppression_id}"]
    assert api("DELETE", f"/suppressions/{suppressed}").json() == []
    assert api("DELETE", "/domains?domain=shop.example.test").json() == {}


def test_unknown_routes_and_methods_have_the_error_shape(api: Api, client: Client) -> None:
    """§1.1: 404 and 405 in the shape of §1.4; `GET /api/doc.json` is public."""
    assert told(api.get("/nowhere"))[0] == 404
    assert told(api("PUT", "/sends"))[0] == 405
    assert client.get("/api/doc.json").json()["openapi"].startswith("3.")


# --- §1.2 Authentication -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Basic eA==", 'Authorization header must start with "Bearer ".'),
        ("Bearer ", "API key is missing or empty."),
        ("Bearer    ", "API key is missing or empty."),
        ("Bearer 0123456789abcdef0123456789abcdef", "Invalid API key."),
    ],
)
def test_what_is_no_key_is_403(api: Api, header: str, message: str) -> None:
    """§1.2 A."""
    assert told(api.get("/sends", Authorization=header)) == (403, message)


def test_a_key_counts_only_from_its_addresses_while_enabled_and_for_its_scopes(api: Api) -> None:
    """§1.2 A: client IP, disabled keys (⚠ theirs go on working), missing scope."""
    key = ApiKey.objects.get(project=api.project)
    ApiKey.objects.filter(pk=key.pk).update(allowed_ips=["192.0.2.0/24"])
    assert told(api.get("/sends")) == (403, "Client IP is not allowed for this API key.")
    ApiKey.objects.filter(pk=key.pk).update(allowed_ips=[], is_enabled=False)
    assert told(api.get("/sends")) == (403, "This API key is disabled.")
    ApiKey.objects.filter(pk=key.pk).update(is_enabled=True, scopes=["domains.read"])
    scope = "You do not have the required scope 'sends.read' to access this resource."
    assert told(api.get("/sends")) == (403, scope)


def test_a_key_is_32_hexadecimal_characters_and_shown_once(api: Api) -> None:
    """§1.2 A; ⚠ a key cannot mint scopes that it does not have."""
    new = made(api, "/api-keys", {"name": "n", "scopes": ["project.read"]})
    assert len(new["key"]) == 32
    assert int(new["key"], 16)
    assert {key["key"] for key in api.get("/api-keys").json()} == {None}
    minter = Api(api.project, ["api_keys.write"])
    assert minter.post("/api-keys", {"name": "n", "scopes": ["sends.read"]}).status_code == 403


def test_keys_do_not_open_what_is_a_persons(api: Api) -> None:
    """§1.2 A: ⚠ Bearer on the organisation-level endpoints was a 500."""
    wanted = (403, "This endpoint cannot be used with an API key.")
    assert told(api.get("/init")) == wanted
    assert told(api.post("/project", {"name": "n", "send_type": "transactional"})) == wanted


def test_sessions_name_their_project(api: Api, foreign: Project, alice: User, client: Client) -> None:
    """§1.2 B, in the order of its checks."""
    no_session = client.get(f"{BASE}/project")
    assert told(no_session) == (401, "Unauthorized")
    assert set(no_session.json()["data"]) == {"login_url", "signup_url"}
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    cases = [
        ({"X-Organization-ID": "7"}, "org_mismatch"),
        ({}, "X-Project-ID is required for this endpoint."),
        ({"X-Project-ID": "999999"}, "Invalid project ID."),
        ({"X-Project-ID": str(foreign.pk)}, "You do not have access to this project."),
    ]
    for headers, message in cases:
        assert told(client.get(f"{BASE}/project", headers=headers)) == (403, message)
    for spelled in ("X-Project-ID", "X-Project-Id", "x-project-id"):
        answer = client.get(f"{BASE}/project", headers={spelled: str(api.project.pk), "X-Organization-ID": "0"})
        assert answer.status_code == 200


def test_the_scopes_begin_with_the_contracts_thirteen() -> None:
    """§1.3."""
    names = (
        "project.read project.write sends.read sends.send domains.read domains.write webhooks.read webhooks.write "
        "api_keys.read api_keys.write suppressions.read suppressions.write analytics.read"
    )
    assert " ".join(SCOPES[:13]) == names
    assert SCOPES[13:] == ("inbound.read", "inbound.write"), "ours"


# --- §1.4 Errors, §1.5 rates, §1.6 idempotency ---------------------------------------------------------------------


def test_a_violation_names_its_field_in_both_dialects(api: Api) -> None:
    """§1.4 and §12: `violations` and `errors`."""
    answer = api.post("/sends", {**PLAIN, "to": ""})
    assert answer.status_code == 422
    assert answer.json() == {
        "message": f"to: {BLANK}",
        "status": 422,
        "violations": [{"property": "to", "message": BLANK}],
        "errors": {"to": [BLANK]},
    }


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/sends/x", (400, "Invalid ID")),
        ("/sends/1", (404, "Entity not found")),
        ("/api-keys/1e3", (400, "Invalid ID")),
        ("/sends?limit=x", (400, 'Invalid query parameter "limit".')),
        ("/sends?before_id=x", (400, 'Invalid query parameter "before_id".')),
    ],
)
def test_ids_and_numbers_that_are_none(api: Api, path: str, wanted: tuple[int, str]) -> None:
    """§1.4: non-numeric id 400 `Invalid ID`, missing 404 `Entity not found`, non-integer query 400."""
    method = "DELETE" if path.startswith("/api-keys") else "GET"
    assert told(api(method, path)) == wanted


def test_answers_carry_the_rate_and_429_says_when_to_come_back(api: Api, settings: Any) -> None:
    """§1.5: three headers on every answer after authentication; §12: `Retry-After`, which the reference lacks."""
    settings.REQUESTS_PER_MINUTE = 2
    first = api.get("/project")
    assert (first["X-RateLimit-Limit"], first["X-RateLimit-Remaining"], first["X-RateLimit-Reset"]) == ("2", "1", "0")
    api.get("/project")
    over = api.get("/project")
    assert over.status_code == 429
    seconds = int(over["Retry-After"])
    assert told(over) == (429, f"Rate limit exceeded. Please try again later in {seconds} seconds.")
    assert "X-RateLimit-Limit" not in api.get("/project", Authorization="Bearer x")


@pytest.mark.parametrize("header", ["X-Idempotency-Key", "Idempotency-Key"])
def test_one_key_sends_once_and_another_body_is_409(api: Api, header: str) -> None:
    """§1.6 and §12: either header; a fingerprint of the body (⚠ theirs replays the old answer)."""
    first = api.post("/sends", PLAIN, **{header: "k-1"})
    again = api.post("/sends", PLAIN, **{header: " k-1 "})
    assert again.json() == first.json()
    assert again["X-Idempotency-Short-Circuit"] == "true"
    assert api.post("/sends", {**PLAIN, "subject": "Other"}, **{header: "k-1"}).status_code == 409


def test_other_endpoints_refuse_the_idempotency_header(api: Api) -> None:
    """§1.6."""
    refused = 'This endpoint does not support idempotency. Retry without the "X-Idempotency-Key" header.'
    assert told(api.get("/domains", **{"X-Idempotency-Key": "k"})) == (400, refused)


# --- §1.7 Limits, and the fields of POST /sends (§1.9) -------------------------------------------------------------

MULTIPLE = "Multiple email addresses are not allowed."
NOT_AN_ADDRESS = "This value is not a valid email address."


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"from": None}, 422, f"from: {BLANK}"),
        ({"from": []}, 422, f"from: {MULTIPLE}"),
        ({"from": ["a@b.example"]}, 422, f"from: {MULTIPLE}"),
        ({"from": "Me <me@shop.example.test>"}, 422, f"from: {NOT_AN_ADDRESS}"),
        ({"from": {"email": "me@shop.example.test", "name": 5}}, 422, "from: The name must be a string."),
        ({"to": None}, 422, f"to: {BLANK}"),
        ({"to": [["a@b.example"]]}, 422, f"to: {MULTIPLE}"),
        ({"cc": "nobody"}, 422, f"cc: {NOT_AN_ADDRESS}"),
        ({"subject": "x" * 999}, 422, "subject: This value is too long. It should have 998 characters or less."),
        ({"body_text": None}, 422, "body_html: body_html must not be blank if body_text is null"),
        ({"body_html": "x" * 2_097_153}, 422, "body_html: body_html must not exceed 2MB."),
        ({"body_text": "x" * 2_097_153}, 422, "body_text: body_text must not exceed 2MB."),
        ({"headers": "x"}, 422, "headers: This value should be of type array."),
        ({"headers": {"123": "x"}}, 422, "headers: The header key 123 must be a string."),
        ({"headers": {"X-A": 5}}, 422, "headers: The header value of X-A must be a string."),
        ({"headers": {"BCC": "x"}}, 422, "headers: The header BCC is not allowed as a custom header."),
        ({"attachments": [{"content": "eA=="}] * 11}, 422, "attachments: You can attach a maximum of 10 files."),
        ({"attachments": [{"content": ""}]}, 422, f"attachments[0][content]: {BLANK}"),
        ({"attachments": [{"content": "eA==", "x": 1}]}, 422, "attachments[0][x]: This field was not expected."),
        (
            {"attachments": [{"content": "x" * 10_485_761}]},
            422,
            "attachments[0][content]: Attachment content must not exceed 10MB.",
        ),
        ({"attachments": [{"content": "?"}]}, 400, "Base64 decoding of attachment failed: index 0"),
        ({"from": "me@other.example"}, 400, "Domain other.example is not registered for this project"),
        (
            {"to": [f"{n}@x.example" for n in range(21)]},
            400,
            "Total number of recipients (To, Cc, Bcc) exceeds the maximum allowed limit of 20.",
        ),
        (
            {"attachments": [{"content": "A" * 7_000_000}, {"content": "A" * 7_000_000}]},
            400,
            "Email size exceeds the maximum allowed size of 10MB.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_send_is_refused_for(api: Api, fields: dict[str, Any], status: int, message: str) -> None:
    """§1.7 and §1.9 `POST /sends`, field by field and rule by rule."""
    assert told(api.post("/sends", {**PLAIN, **fields})) == (status, message)


def test_a_domain_that_may_not_send_is_refused(api: Api) -> None:
    """§1.9: pending and suspended may not; active and warning may. The name is compared in any case."""
    for status, wanted in (("pending", 400), ("suspended", 400), ("warning", 200), ("active", 200)):
        Domain.objects.filter(project=api.project).update(status=status)
        answer = api.post("/sends", {**PLAIN, "from": "me@SHOP.example.test"})
        assert answer.status_code == wanted
        if wanted == 400:
            message = f"Domain shop.example.test is not allowed to send emails (status: {status})"
            assert told(answer) == (400, message)


def test_the_same_address_twice_gets_one_mail(api: Api) -> None:
    """§1.9: ⚠ theirs is a 500."""
    send = made(api, "/sends", {**PLAIN, "to": ["dora@example.test", "dora@example.test"]})
    assert len(api.get(f"/sends/{send['id']}").json()["recipients"]) == 1


# --- §1.8 Objects --------------------------------------------------------------------------------------------------

OBJECTS = {
    "/sends": "id uuid created_at from_address from_name subject size_bytes queued send_after recipients attempts feedback",
    "/domains": "id created_at domain status status_changed_at dkim_selector dkim_host dkim_public_key dkim_txt_value "
    "dkim_checked_at dkim_error_message",
    "/webhooks": "id url description events secret",
    "/api-keys": "id name scopes allowed_ips key created_at is_enabled last_accessed_at",
    "/suppressions": "id created_at email reason description",
    "/project": "id created_at name send_type",
    "/project-users": "id created_at scopes user oidc_sub project",
}


@pytest.mark.parametrize("path", OBJECTS)
def test_objects_have_the_contracts_fields(api: Api, there: There, path: str) -> None:
    """§1.8: ours have them all, and more."""
    answer = api.get(path).json()
    found = answer[0] if isinstance(answer, list) else answer
    assert set(OBJECTS[path].split()) <= set(found)


def test_a_send_says_what_the_contract_has(api: Api) -> None:
    """§1.8 Send, SendRecipient, SendContent; §1.9: `message_id` without angle brackets."""
    accepted = made(api, "/sends", PLAIN)
    send = api.get(f"/sends/{accepted['id']}").json()
    assert accepted == {"id": send["id"], "message_id": f"{send['uuid']}@shop.example.test"}
    assert api.get(f"/sends/uuid/{send['uuid']}").json() == send
    assert {"id", "type", "address", "name", "status", "try_count"} <= set(send["recipients"][0])
    assert (send["queued"], send["attempts"], send["feedback"]) == (True, [], [])
    content = api.get(f"/sends/uuid/{send['uuid']}/content").json()
    assert {"body_html", "body_text", "headers", "raw"} <= set(content)
    assert "Message-ID: <" in content["raw"]
    assert "DKIM-Signature:" in content["raw"]


def test_states_are_the_contracts() -> None:
    """§9: `cancelled` is our one addition to the recipients'."""
    assert [str(s) for s in RecipientStatus if s != "cancelled"] == (
        ["queued", "accepted", "deferred", "bounced", "complained", "suppressed", "failed"]
    )
    assert [str(s) for s in AttemptStatus] == ["accepted", "deferred", "bounced", "partial", "failed"]
    assert [str(kind) for kind in RecipientType] == ["to", "cc", "bcc"]


# --- §1.9 Endpoints, §5 domains, §6 projects -----------------------------------------------------------------------

NO_SUCH = "01a20122-a90d-702d-9de8-efa6f39926e0"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", f"/sends/uuid/{NO_SUCH}", None, 404, f"Send with UUID {NO_SUCH} not found"),
        ("GET", f"/sends/uuid/{NO_SUCH}/content", None, 404, f"Send with UUID {NO_SUCH} not found"),
        ("GET", "/sends?date_from_search=never", None, 422, "date_from_search: This value is not a valid date."),
        ("GET", "/sends?limit=1001", None, 422, "limit: This value should be between 1 and 1000."),
        ("POST", "/domains", {"domain": ""}, 422, f"domain: {BLANK}"),
        ("POST", "/domains", {"domain": "SHOP.example.test."}, 400, "Domain already exists"),
        ("GET", "/domains/by", None, 422, "id: Either id or domain must be provided."),
        ("GET", "/domains/by?id=1", None, 400, "Domain not found"),
        ("POST", "/domains/verify", {}, 422, "id: Either id or domain must be provided."),
        (
            "POST",
            "/domains/verify",
            {"domain": "shop.example.test"},
            400,
            "You can only verify a domain that is in PENDING status.",
        ),
        ("DELETE", "/domains", {"domain": "x.example"}, 400, "Domain not found"),
        ("POST", "/api-keys", {"scopes": ["sends.read"]}, 422, f"name: {BLANK}"),
        ("POST", "/api-keys", {"name": "n", "scopes": []}, 422, f"scopes: {BLANK}"),
        (
            "POST",
            "/api-keys",
            {"name": "n", "scopes": ["x"]},
            422,
            "scopes[0]: The value you selected is not a valid choice.",
        ),
        (
            "POST",
            "/api-keys",
            {"name": "n", "scopes": ["sends.send"]},
            422,
            'allowed_ips: At least one allowed IP is required when the "sends.send" scope is enabled.',
        ),
        (
            "POST",
            "/api-keys",
            {"name": "n", "scopes": ["sends.read"], "allowed_ips": ["10.0.0.0/8"]},
            422,
            "allowed_ips[0]: IPv4 CIDR prefix must be between /24 and /32 (got '10.0.0.0/8').",
        ),
        (
            "POST",
            "/api-keys",
            {"name": "n", "scopes": ["sends.read"], "allowed_ips": ["x"]},
            422,
            "allowed_ips[0]: 'x' is not a valid IPv4 or IPv6 address.",
        ),
        ("POST", "/project-users", {"user_id": 999999, "scopes": []}, 404, "User with id 999999 not found."),
        (
            "POST",
            "/project-users",
            {"user_id": 1, "scopes": ["sends.write"]},
            422,
            "scopes[0]: The value you selected is not a valid choice.",
        ),
        ("PATCH", "/project", {"name": ""}, 422, f"name: {BLANK}"),
        ("POST", "/webhooks", {"url": "https://a.example.com", "events": []}, 422, f"events: {BLANK}"),
        ("POST", "/webhooks", {"url": "nowhere", "events": ["domain.created"]}, 422, None),
    ],
)
def test_what_endpoints_refuse(api: Api, method: str, path: str, body: Any, status: int, message: str | None) -> None:
    """§1.9, endpoint by endpoint; §5: names are normalised, and ours are checked."""
    assert told(api(method, path, body)) == (status, message) or (
        message is None and api(method, path, body).status_code == status
    )


def test_retry_speaks_as_the_contract(api: Api) -> None:
    """§1.9 `POST /sends/{id}/retry`: what is still queued is due now, and nothing is retried."""
    send = made(api, "/sends", PLAIN)
    answer = api.post(f"/sends/{send['id']}/retry", {})
    assert (answer.json()["retried_recipients"], answer.json()["send"]["id"]) == (0, send["id"])


def test_lists_of_sends_are_paged_and_filtered(api: Api) -> None:
    """§1.9 `GET /sends`: newest first, `before_id`, an unknown status is ignored, `status` with `to_search` (⚠ 500)."""
    ids = [api.send(**{**PLAIN, "to": f"{name}@example.test"}) for name in ("one", "two", "three")]
    shown = [send["id"] for send in api.get("/sends").json()]
    assert shown == sorted(ids, reverse=True)
    assert [send["id"] for send in api.get(f"/sends?before_id={ids[1]}&limit=5").json()] == [ids[0]]
    assert len(api.get("/sends?status=processing").json()) == 3
    assert [send["id"] for send in api.get("/sends?status=queued&to_search=two@").json()] == [ids[1]]


@pytest.mark.parametrize("way", ["query", "body"])
def test_a_domain_is_named_in_the_query_or_the_body(api: Api, way: str) -> None:
    """§12: both dialects of `GET /domains/by`, `POST /domains/verify` and `DELETE /domains`."""
    domain = Domain.objects.get(project=api.project)
    for names in ({"id": domain.pk}, {"domain": "shop.example.test"}):
        name, value = next(iter(names.items()))
        query, body = (f"?{name}={value}", None) if way == "query" else ("", names)
        assert api("GET", f"/domains/by{query}", body).json()["id"] == domain.pk
    assert api("DELETE", f"/domains{query}", body).json() == {}


def test_ten_keys_are_the_most(api: Api) -> None:
    """§1.7: 400 beyond ten."""
    for number in range(9):
        made(api, "/api-keys", {"name": str(number), "scopes": ["sends.read"]})
    refused = api.post("/api-keys", {"name": "eleven", "scopes": ["sends.read"]})
    assert told(refused) == (400, "You have reached the maximum number of API keys for this project.")


def test_a_console_learns_everything_by_init(api: Api, alice: User, client: Client) -> None:
    """§1.9 `GET /init`, `GET /init/project`, `POST /project`."""
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    init = client.get(f"{BASE}/init").json()
    assert set(init) == {"project_users", "config", "organization"}
    assert {"deployment", "hyvor", "user", "app"} <= set(init["config"])
    assert init["config"]["user"]["is_sudo"] is False
    assert init["organization"] == {"id": 0, "name": "Default", "role": "admin"}
    raw = json.dumps({"name": "Second", "send_type": "distributional"})
    founded = client.post(f"{BASE}/project", raw, content_type="application/json").json()
    assert (founded["project"]["name"], len(founded["scopes"])) == ("Second", 15)
    assert api.get("/init/project").json()["project"]["id"] == api.project.pk
    assert api("DELETE", "/project-users").json() == []


def test_mail_with_every_field_of_the_contract_is_accepted(api: Api) -> None:
    """§1.9: strings and objects mixed, names empty or null, both bodies, headers, a file."""
    body = mail(
        **{"from": {"email": "me@shop.example.test", "name": ""}},
        to=["dora@example.test", {"email": "eve@example.test", "name": None}],
        cc={"email": "cc@example.test"},
        bcc=["bcc@example.test"],
        body_html="<p>Hi</p>",
        headers={"Reply-To": "help@shop.example.test", "List-Unsubscribe": "<https://shop.example.test/u>"},
        attachments=[{"content": "eA==", "name": "x.txt", "content_type": "text/plain"}],
    )
    send = api.get(f"/sends/{made(api, '/sends', body)['id']}").json()
    assert [(r["type"], r["address"]) for r in send["recipients"]] == [
        ("to", "dora@example.test"),
        ("to", "eve@example.test"),
        ("cc", "cc@example.test"),
        ("bcc", "bcc@example.test"),
    ]


def test_analytics_speak_as_the_contract(api: Api) -> None:
    """§1.9: three periods, 0 when nothing was sent; a chart of 31 days that ends today."""
    for period in ("", "?period=30d", "?period=7d", "?period=24h"):
        assert api.get(f"/analytics/stats{period}").json() == {"sends": 0, "bounce_rate": 0.0, "complaint_rate": 0.0}
    assert api.get("/analytics/stats?period=1y").status_code == 422
    chart = api.get("/analytics/sends/chart").json()
    assert len(chart) == 31
    assert [day["date"] for day in chart] == sorted(day["date"] for day in chart)
    assert chart[-1].keys() == {"date", "total", "bounced", "complained", "accepted", "queued"}
