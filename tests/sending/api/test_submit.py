"""`POST /sends`: who may, what is refused and how, idempotency, sizes."""

import io
import json

import pytest
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from projects.models import Domain
from sending.models import Recipient, Send, Suppression, Waiting
from tests.sending.api.conftest import mail

pytestmark = pytest.mark.django_db


def refused(response) -> tuple[int, str]:
    body = response.json()
    assert body["status"] == response.status_code
    return response.status_code, body["message"]


def test_a_mail_is_accepted(api):
    response = api.post("/sends", mail(cc="e@example.test", subject="Grüße"))
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response.json().keys() == {"id", "message_id"}
    send = Send.objects.get(pk=response.json()["id"])
    assert response.json()["message_id"] == f"{send.uuid}@shop.example.test"
    assert (send.project_id, send.subject) == (api.project.pk, "Grüße")
    assert Waiting.objects.filter(send_id=send.pk).count() == 2
    assert "X-Idempotency-Short-Circuit" not in response


def test_ids_are_exact_in_json_and_above_32_bits(api):
    """Lesson P10."""
    assert 2**32 < api.send() < 2**53


def test_bulk_can_be_marked_and_leaves_after_the_rest(api):
    """Our own addition to the contract."""
    assert Send.objects.get(pk=api.send(priority="bulk")).priority == 10
    assert Send.objects.get(pk=api.send(priority="transactional")).priority == 0
    assert Send.objects.get(pk=api.send(priority=None)).priority == 0
    for wrong in ("urgent", 0, True, ["bulk"], ""):
        assert refused(api.post("/sends", mail(priority=wrong))) == (
            422,
            "priority: This value should be one of transactional, bulk.",
        )


def test_an_address_in_to_and_cc_gets_one_mail(api):
    """Lesson C15."""
    send_id = api.send(to=["dora@example.test", "dora@EXAMPLE.test"], cc={"email": "dora@Example.Test", "name": "D"})
    assert [(r.type, r.address) for r in Recipient.objects.filter(send_id=send_id)] == [("to", "dora@example.test")]


def test_suppressed_recipients_change_nothing_in_the_answer(api):
    Suppression.objects.create(project=api.project, email="dora@example.test", reason="bounce")
    send_id = api.send()
    shown = api.get(f"/sends/{send_id}").json()
    assert (shown["queued"], shown["recipients"][0]["status"]) == (False, "suppressed")


def test_a_key_needs_the_scope(keyed, domain):
    response = keyed("sends.read").post("/sends", mail())
    assert refused(response) == (403, "You do not have the required scope 'sends.send' to access this resource.")


def test_who_does_not_say_who_they_are_is_refused_before_the_body_is_looked_at(domain):
    response = Client().post("/api/console/sends", "{", content_type="text/plain")
    assert refused(response) == (401, "Unauthorized")
    response = Client().post(
        "/api/console/sends", "{", content_type="text/plain", headers={"Authorization": "Bearer x"}
    )
    assert refused(response) == (403, "Invalid API key.")


def test_a_session_sends_with_its_csrf_token(domain, alice):
    client = Client(enforce_csrf_checks=True, headers={"X-Project-ID": str(domain.project_id)})
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    assert client.post("/api/console/sends", mail(), content_type="application/json").status_code == 403
    client.cookies["csrftoken"] = token = "a" * 32
    response = client.post(
        "/api/console/sends", mail(), content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert response.status_code == 200


# --- what a rule refuses -------------------------------------------------------------------------------------------


def test_a_violation_is_told_in_both_dialects(api):
    response = api.post("/sends", mail(to=..., subject=5))
    assert response.status_code == 422
    assert response.json() == {
        "message": "to: This value should not be blank.",
        "status": 422,
        "violations": [
            {"property": "to", "message": "This value should not be blank."},
            {"property": "subject", "message": "This value should be of type string."},
        ],
        "errors": {
            "to": ["This value should not be blank."],
            "subject": ["This value should be of type string."],
        },
    }
    assert not Send.objects.exists()


def test_an_unregistered_domain_is_refused(api):
    response = api.post("/sends", mail(**{"from": "a@sub.shop.example.test"}))
    assert refused(response) == (400, "Domain sub.shop.example.test is not registered for this project")


@pytest.mark.parametrize("status", ["pending", "suspended", "active", "warning"])
def test_active_and_warning_domains_may_send(api, domain, status):
    Domain.objects.filter(pk=domain.pk).update(status=status)
    response = api.post("/sends", mail())
    if status in ("active", "warning"):
        assert response.status_code == 200
    else:
        text = f"Domain shop.example.test is not allowed to send emails (status: {status})"
        assert refused(response) == (400, text)


def test_more_recipients_than_allowed_are_refused(api):
    people = [f"a{i}@example.test" for i in range(21)]
    assert api.post("/sends", mail(to=people[:10], cc=people[10:15], bcc=people[15:20])).status_code == 200
    text = "Total number of recipients (To, Cc, Bcc) exceeds the maximum allowed limit of 20."
    assert refused(api.post("/sends", mail(to=people))) == (400, text)
    assert refused(api.post("/sends", mail(to=people[:10], cc=people[10:15], bcc=people[15:]))) == (400, text)


def test_bad_base64_is_refused_after_domain_and_recipients(api):
    bad = [{"content": "aGk="}, {"content": "no base64!"}]
    text = "Base64 decoding of attachment failed: index 1"
    assert refused(api.post("/sends", mail(attachments=bad))) == (400, text)
    response = api.post("/sends", mail(attachments=bad, **{"from": "a@elsewhere.test"}))
    assert refused(response) == (400, "Domain elsewhere.test is not registered for this project")


def test_a_mail_that_is_too_large_is_refused(api, settings):
    settings.MAX_MESSAGE_BYTES = 1024 * 1024
    response = api.post("/sends", mail(body_text="x" * 1024 * 1024))
    assert refused(response) == (400, "Email size exceeds the maximum allowed size of 1MB.")
    assert not Send.objects.exists()


def test_a_header_cannot_be_injected(api):
    response = api.post("/sends", mail(headers={"X-A": "b\r\nBcc: eve@example.test"}))
    assert (response.status_code, list(response.json()["errors"])) == (422, ["headers"])


# --- the body ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"{", b"nonsense", b"\xff", b'{"from": "\\ud800"}', b"[" * 100_000])
def test_bad_json_is_refused(api, raw):
    assert refused(api.post("/sends", raw)) == (400, 'Request payload contains invalid "json" data.')


@pytest.mark.parametrize("raw", [b"[]", b"null", b"5", b'"x"'])
def test_json_that_is_no_object_is_refused(api, raw):
    assert refused(api.post("/sends", raw)) == (400, "Request payload must be a JSON object.")


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(api, content_type):
    assert refused(api.post("/sends", b"{}", content_type=content_type)) == (415, "Unsupported format.")


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain"])
def test_an_empty_body_lacks_everything(api, content_type):
    response = api.post("/sends", b"", content_type=content_type)
    assert refused(response) == (422, "from: This value should not be blank.")


def test_a_form_is_accepted(api):
    raw = b"from=a%40shop.example.test&to[]=b%40example.test&to[]=c%40example.test&subject=Hi&body_text=x"
    response = api.post("/sends", raw, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 200
    assert Recipient.objects.filter(send_id=response.json()["id"]).count() == 2
    response = api.post("/sends", raw + b"&subject=a%00b", content_type="application/x-www-form-urlencoded")
    assert list(response.json()["errors"]) == ["subject"]


def test_an_announced_length_over_the_limit_is_refused_unread(api, settings):
    settings.MAX_REQUEST_BYTES = 5000
    response = api.post("/sends", mail(body_text="x" * 5000))
    assert refused(response) == (413, "The request is too large.")

    class Unread(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

    response = api.client.generic(
        "POST", "/api/console/sends", b"", **{"wsgi.input": Unread(), "CONTENT_LENGTH": "99999999999"}
    )
    assert response.status_code == 413


class Stream(io.BytesIO):
    """A chunked body as gunicorn gives it: without a length, with an end."""

    largest = 0

    def read(self, size=-1):
        self.largest = max(self.largest, size)
        return super().read(size)


def chunked(api, raw: bytes, **extra) -> tuple[int, Stream]:
    stream = Stream(raw)
    environ = {
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "application/json",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "HTTP_AUTHORIZATION": f"Bearer {api.token}",
        **extra,
    }
    return api.client.generic("POST", "/api/console/sends", b"", **environ).status_code, stream


def test_a_chunked_body_is_read_and_bounded(api, settings):
    settings.MAX_REQUEST_BYTES = 5000
    assert chunked(api, json.dumps(mail()).encode())[0] == 200
    status, stream = chunked(api, json.dumps(mail(body_text="x" * 50_000)).encode())
    assert (status, stream.largest) == (413, 5001)
    assert chunked(api, b"", **{"wsgi.input_terminated": False})[0] == 411


# --- idempotency ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["X-Idempotency-Key", "Idempotency-Key"])
def test_a_key_sends_once(api, header):
    first = api.post("/sends", mail(), **{header: "order-1"})
    again = api.post("/sends", mail(), **{header: "  order-1 "})
    assert (again.status_code, again.json()) == (200, first.json())
    assert again["X-Idempotency-Short-Circuit"] == "true"
    assert "X-Idempotency-Short-Circuit" not in first
    assert Send.objects.count() == 1


def test_both_headers_are_one_key_space(api):
    first = api.post("/sends", mail(), **{"X-Idempotency-Key": "k"}).json()
    assert api.post("/sends", mail(), **{"Idempotency-Key": "k"}).json() == first


def test_a_key_with_another_body_is_a_conflict(api):
    api.post("/sends", mail(), **{"Idempotency-Key": "k"})
    status, message = refused(api.post("/sends", mail(subject="Other"), **{"Idempotency-Key": "k"}))
    assert (status, "different request body" in message) == (409, True)


def test_a_key_belongs_to_its_project(api, foreign_api):
    first = api.post("/sends", mail(), **{"Idempotency-Key": "k"}).json()
    assert foreign_api.post("/sends", mail(), **{"Idempotency-Key": "k"}).json() != first


def test_a_refused_mail_does_not_use_its_key_up(api):
    assert api.post("/sends", mail(to=...), **{"Idempotency-Key": "k"}).status_code == 422
    assert api.post("/sends", mail(), **{"Idempotency-Key": "k"}).status_code == 200


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_key_is_none(api, empty):
    assert api.post("/sends", mail(), **{"X-Idempotency-Key": empty}).json()["id"] != api.send()


@pytest.mark.parametrize("key", ["x" * 256, "a\x00b", "a\tb", "\xff\xfe"])
def test_a_key_that_could_not_be_kept_is_refused(api, key):
    assert api.post("/sends", mail(), **{"Idempotency-Key": key}).status_code == 400
    assert not Send.objects.exists()


@pytest.mark.parametrize("key", ["x" * 255, "ü" * 255])
def test_a_long_key_in_any_script_is_kept(api, key):
    raw = key.encode().decode("latin-1")
    first = api.post("/sends", mail(), **{"Idempotency-Key": raw})
    assert first.status_code == 200
    assert api.post("/sends", mail(), **{"Idempotency-Key": raw}).json() == first.json()


def test_other_methods_and_endpoints_know_no_idempotency(api):
    assert api.get("/sends", **{"X-Idempotency-Key": "k"}).status_code == 400
    assert api.post(f"/sends/{api.send()}/retry", {}, **{"X-Idempotency-Key": "k"}).status_code == 400


# --- anything at all -----------------------------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
)
odd = st.sampled_from(
    ["a@b.test", "x@shop.example.test", "\0", "a\r\nb", "aGk=", "", " ", "\u202e", "ſ@ß.test", "@", "=?"]
)
values = st.recursive(
    scalars | odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | odd, inner, max_size=4),
)
addresses = odd | st.fixed_dictionaries({"email": odd}, optional={"name": values}) | values
bodies = st.fixed_dictionaries(
    {},
    optional={
        "from": st.just("a@shop.example.test") | addresses,
        "to": addresses | st.lists(addresses, max_size=4),
        "cc": addresses | st.lists(addresses, max_size=4),
        "subject": st.text() | values,
        "body_text": st.text() | values,
        "body_html": st.text() | values,
        "headers": st.dictionaries(st.text(max_size=8) | st.just("X-A"), st.text() | values, max_size=4) | values,
        "attachments": st.lists(
            st.fixed_dictionaries(
                {"content": st.just("aGk=") | values}, optional={"name": st.text(), "content_type": values}
            )
            | values,
            max_size=3,
        )
        | values,
    },
)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies | values)
def test_no_body_is_too_odd_for_an_answer(api, body):
    response = api.post("/sends", json.dumps(body).encode())
    assert response.status_code in {200, 400, 422}, response.content
    if response.status_code == 200:
        assert api.get(f"/sends/uuid/{response.json()['message_id'][:36]}/content").status_code == 200
    else:
        assert {"message", "status"} <= response.json().keys()


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200), key=st.text(max_size=300))
def test_no_octets_are_too_odd_for_an_answer(api, raw, key):
    response = api.post("/sends", raw, **{"Idempotency-Key": key})
    assert response.status_code in {400, 422}
