"""`POST /sends/batch`: each message its own result, over a content that is stored once; nothing twice, and nobody's values
in anybody else's mail."""

import email
import email.policy
import io
import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from relay_project.mail.placeholders import MAX_PLACEHOLDERS
from sending.content import raw_message
from sending.models import Content, IdempotencyRecord, Recipient, Send, Waiting
from tests.sending.api.test_at_once import at_once

pytestmark = pytest.mark.django_db

SHARED: dict[str, Any] = {
    "from": {"email": "shop@shop.example.test", "name": "Shop"},
    "subject": "Your order {{order}}",
    "body_text": "Dear {{name}},\nthank you.\n",
    "body_html": "<p>Dear {{name}},</p>{{{greeting}}}",
    "headers": {"Reply-To": "help+{{order}}@shop.example.test"},
    "variables": {"greeting": "<b>Thanks!</b>", "name": "customer"},
}


def to(address: str, order: int | str = 1, **fields: Any) -> dict[str, Any]:
    variables = {"order": order, **fields.pop("variables", {})}
    return {"to": address, "variables": variables, **fields}


def batch(*messages: Any, **fields: Any) -> dict[str, Any]:
    body = {**SHARED, "messages": list(messages), **fields}
    return {name: value for name, value in body.items() if value is not ...}


def results(response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content
    body = response.json()
    assert body["accepted"] + body["refused"] == len(body["results"])
    assert body["accepted"] == sum(result["status"] == 200 for result in body["results"])
    return body["results"]


def parsed(result: dict[str, Any]):
    raw = raw_message(Send.objects.get(pk=result["id"]))
    return email.message_from_bytes(raw, policy=email.policy.default)


def text_of(part) -> str:
    return part.get_content().replace("\r\n", "\n")


def refused(result: dict[str, Any]) -> tuple[int, str]:
    return result["status"], result["message"]


# --- What is shared, and what is each one's -------------------------------------------------------------------------


def test_everybody_gets_their_own_mail_from_one_stored_content(api):
    """Lesson P7: no batch, no personalisation."""
    found = results(
        api.post(
            "/sends/batch",
            batch(to("dora@example.test", 7, variables={"name": "Dora <3"}), to("emil@example.test", "A-8")),
        )
    )
    dora, emil = map(parsed, found)
    assert (dora["To"], dora["Subject"], dora["Reply-To"]) == (
        "dora@example.test",
        "Your order 7",
        "help+7@shop.example.test",
    )
    assert text_of(dora.get_body(("plain",))) == "Dear Dora <3,\nthank you.\n"
    assert dora.get_body(("html",)).get_content().strip() == "<p>Dear Dora &lt;3,</p><b>Thanks!</b>"
    assert (emil["Subject"], emil["Reply-To"]) == ("Your order A-8", "help+A-8@shop.example.test")
    assert text_of(emil.get_body(("plain",))) == "Dear customer,\nthank you.\n"
    assert Content.objects.count() == 1
    assert list(Send.objects.order_by("id").values_list("subject", flat=True)) == ["Your order 7", "Your order A-8"]
    assert Waiting.objects.count() == 2


def test_what_is_shown_is_what_was_sent_byte_for_byte(api):
    [one] = results(api.post("/sends/batch", batch(to("dora@example.test"))))
    shown = api.get(f"/sends/uuid/{one['message_id'][:36]}/content").json()
    assert shown["body_html"] == "<p>Dear customer,</p><b>Thanks!</b>"
    assert "Dear customer" in shown["raw"]
    send = Send.objects.get()
    assert len(raw_message(send)) >= send.size_bytes


def test_a_message_may_bring_what_the_others_share(api):
    found = results(
        api.post(
            "/sends/batch",
            batch(
                to("a@example.test", subject="Other {{order}}", priority="bulk", cc="b@example.test"),
                to("c@example.test", body_text="Own {{name}}.", body_html=None, headers={"X-A": "b"}),
                to("d@example.test"),
            ),
        )
    )
    first, second, third = map(parsed, found)
    assert first["Subject"] == "Other 1"
    assert Send.objects.get(pk=found[0]["id"]).priority == 10
    assert (text_of(second), second["X-A"], second["Reply-To"]) == (
        "Own customer.\n",
        "b",
        "help+1@shop.example.test",
    )
    assert text_of(third.get_body(("plain",))).startswith("Dear customer")
    assert Content.objects.count() == 2, "the second has a content of its own"


def test_files_are_shared_too(api):
    found = results(
        api.post(
            "/sends/batch",
            batch(to("a@example.test"), to("b@example.test"), attachments=[{"content": "aGVsbG8=", "name": "a.txt"}]),
        )
    )
    assert [[part.get_content() for part in parsed(one).iter_attachments()] for one in found] == [["hello"], ["hello"]]
    assert Content.objects.count() == 1
    for send in Send.objects.all():
        assert len(raw_message(send)) >= send.size_bytes


def test_braces_that_mean_nothing_stay_and_cost_nothing(api):
    [one] = results(
        api.post(
            "/sends/batch",
            batch(
                {"to": "a@example.test"},
                subject="Hi",
                body_text="no {braces}",
                body_html=...,
                headers=...,
                variables=...,
            ),
        )
    )
    assert Send.objects.get().variables is None
    [quoted] = results(
        api.post(
            "/sends/batch",
            batch(
                {"to": "a@example.test"}, subject=r"Hi \{{x}}", body_text="x", body_html=..., headers=..., variables=...
            ),
        )
    )
    assert parsed(quoted)["Subject"] == "Hi {{x}}"
    assert api.send(subject="Hi {{x}}", body_text="{{") > one["id"], "a single message has no placeholders"
    assert Send.objects.latest("id").subject == "Hi {{x}}"


# --- One bad message is its own -------------------------------------------------------------------------------------


def test_each_message_has_its_own_result_in_order(api):
    found = results(
        api.post(
            "/sends/batch",
            batch(
                to("a@example.test"),
                to("no address"),
                5,
                to("b@example.test", **{"from": "x@elsewhere.test"}),
                to("c@example.test", subject=5),
                {"to": "d@example.test"},
                to("e@example.test", attachments=[{"content": "no base64!"}]),
                to("f@example.test", variables={"name": ["x"]}),
                to("g@example.test"),
            ),
        )
    )
    assert [one["status"] for one in found] == [200, 422, 422, 400, 422, 422, 400, 422, 200]
    assert found[1]["violations"] == [{"property": "to", "message": "This value is not a valid email address."}]
    assert found[1]["errors"] == {"to": ["This value is not a valid email address."]}
    assert refused(found[3]) == (400, "Domain elsewhere.test is not registered for this project")
    assert refused(found[5]) == (422, "subject: The variable order is missing.")
    assert refused(found[6]) == (400, "Base64 decoding of attachment failed: index 0")
    assert list(found[7]["errors"]) == ["variables[name]"]
    assert sorted(Recipient.objects.values_list("address", flat=True)) == ["a@example.test", "g@example.test"]


@pytest.mark.parametrize(
    ("fields", "property_", "words"),
    [
        ({"subject": "{{order}}", "variables": {"order": "a\r\nBcc: eve@example.test"}}, "subject", "line breaks"),
        (
            {"subject": "x", "headers": {"X-A": "{{order}}"}, "variables": {"order": "a\nBcc: eve@x.test"}},
            "headers",
            "line end",
        ),
        ({"subject": "{{order}}", "variables": {"order": "x" * 999}}, "subject", "too long"),
        ({"body_html": "{{#each}}"}, "body_html", "is not a placeholder"),
        ({"body_text": "{{nmae}}"}, "body_text", "The variable nmae is missing."),
        ({"body_text": "{{name}}" * (MAX_PLACEHOLDERS + 1)}, "body_text", "more than"),
        (
            {"subject": "x", "body_text": "{{order}}" * 900, "variables": {"order": "x" * 60_000}},
            "body_text",
            "too long",
        ),
        (
            {"subject": "x", "headers": {"X-A": "{{order}}"}, "variables": {"order": "x" * 60_000}},
            "headers",
            "too long",
        ),
        ({"variables": {"order": "x" * 65_537}}, "variables[order]", "too long"),
        ({"variables": {"order": "a\0b"}}, "variables[order]", "NUL"),
        ({"variables": {"order": True}}, "variables[order]", "string|int|float"),
        ({"variables": {"o r": "x"}}, "variables[o r]", "A variable's name"),
        ({"variables": {f"v{n}": "x" for n in range(101)}}, "variables", "100 elements"),
        ({"variables": [1]}, "variables", "array"),
        ({"idempotency_key": 5}, "idempotency_key", "255"),
        ({"idempotency_key": "x" * 256}, "idempotency_key", "255"),
    ],
)
def test_what_a_variable_may_not_do_is_refused_by_name(api, fields, property_, words):
    """A value ends no header field, and fills no memory."""
    fields["variables"] = (
        {"order": 1, **fields["variables"]}
        if isinstance(fields.get("variables"), dict)
        else fields.get("variables", {"order": 1})
    )
    found = results(api.post("/sends/batch", batch({"to": "a@example.test", **fields}, to("b@example.test"))))
    assert [one["status"] for one in found] == [422, 200]
    assert list(found[0]["errors"]) == [property_]
    assert words in found[0]["message"]
    assert Send.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status", "property_"),
    [
        ({}, 422, "messages"),
        ({"messages": []}, 422, "messages"),
        ({"messages": {"to": "a@example.test"}}, 422, "messages"),
        ({"messages": [{}] * 1001}, 422, "messages"),
        (batch({"to": "a@example.test"}, body_html=5), 422, "body_html"),
        (batch({"to": "a@example.test"}, variables={"a b": "x"}), 422, "variables[a b]"),
        (batch({"to": "a@example.test"}, attachments=[{"content": "no base64!"}]), 400, None),
    ],
)
def test_a_call_that_is_none_is_refused_as_a_whole(api, body, status, property_):
    response = api.post("/sends/batch", body)
    assert response.status_code == status
    assert property_ is None or list(response.json()["errors"]) == [property_]
    assert not Send.objects.exists()


def test_who_may_and_how(api, keyed):
    assert Client().post("/api/console/sends/batch", "{", content_type="text/plain").status_code == 401
    assert keyed("sends.read").post("/sends/batch", batch(to("a@example.test"))).status_code == 403
    assert api.get("/sends/batch").status_code == 405
    assert api.post("/sends/batch", b"{").status_code == 400
    assert api.post("/sends/batch", b"{}", content_type="text/plain").status_code == 415


def test_the_most_one_call_may_bring_is_bounded(api, settings, monkeypatch):
    monkeypatch.setattr("sending.accept.accept.MAX_BATCH_OCTETS", 1500)
    found = results(api.post("/sends/batch", batch(*(to(f"{n}@example.test") for n in range(5)))))
    statuses = [one["status"] for one in found]
    assert statuses[0] == 200
    assert statuses[-1] == 413
    assert sorted(statuses) == statuses


# --- Sizes ----------------------------------------------------------------------------------------------------------


class Unread(io.BytesIO):
    def read(self, *_):
        raise AssertionError("the body was read")


@pytest.mark.parametrize(("path", "octets"), [("/sends", 20_000_000), ("/sends/batch", 40_000_000)])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(api, path, octets):
    response = api.client.generic(
        "POST",
        f"/api/console{path}",
        b"",
        content_type="application/json",
        headers={"Authorization": f"Bearer {api.token}"},
        **{"wsgi.input": Unread(), "CONTENT_LENGTH": str(octets)},
    )
    assert (response.status_code, response.json()["message"]) == (413, "The request is too large.")


def test_a_batch_may_be_larger_than_a_single_request(api, settings):
    settings.MAX_REQUEST_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 5000
    settings.MAX_BATCH_REQUEST_BYTES = 60_000
    large = batch(to("a@example.test"), body_text="x" * 20_000)
    assert results(api.post("/sends/batch", large))[0]["status"] == 200
    assert api.post("/sends", large).status_code == 413
    assert api.post("/sends/batch", batch(to("a@example.test"), body_text="x" * 60_000)).status_code == 413


# --- Nothing twice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["X-Idempotency-Key", "Idempotency-Key"])
def test_a_call_is_idempotent_as_a_whole(api, header):
    body = batch(to("a@example.test"), to("no address"), to("b@example.test", idempotency_key="b"))
    first = api.post("/sends/batch", body, **{header: "campaign-1"})
    again = api.post("/sends/batch", body, **{header: "campaign-1"})
    assert again.json() == first.json()
    assert again["X-Idempotency-Short-Circuit"] == "true"
    assert "X-Idempotency-Short-Circuit" not in first
    assert Send.objects.count() == 2
    other = api.post("/sends/batch", batch(to("c@example.test")), **{header: "campaign-1"})
    assert (other.status_code, "different request body" in other.json()["message"]) == (409, True)
    single = api.post(
        "/sends", {"from": "shop@shop.example.test", "to": "a@example.test", "body_text": "x"}, **{header: "campaign-1"}
    )
    assert single.status_code == 409, "keys are the project's, whatever the call"


def test_a_message_is_idempotent_in_whatever_batch_it_comes(api):
    one = to("a@example.test", idempotency_key="a")
    [first] = results(api.post("/sends/batch", batch(one)))
    assert "replayed" not in first
    again, fresh, twin, other = results(
        api.post(
            "/sends/batch",
            batch(
                one,
                to("b@example.test", idempotency_key="b"),
                to("b@example.test", idempotency_key="b"),
                to("c@example.test", idempotency_key="a"),
            ),
        )
    )
    assert again == {**first, "replayed": True}
    assert twin == {**fresh, "replayed": True}
    assert other["status"] == 409
    [changed] = results(api.post("/sends/batch", batch(one, subject="New {{order}}")))
    assert changed["status"] == 409, "what it shares is a part of it"
    assert Send.objects.count() == 2


def test_a_call_of_which_nothing_was_accepted_does_not_use_its_key_up(api):
    bad = batch(to("no address"))
    for _ in range(2):
        assert results(api.post("/sends/batch", bad, **{"Idempotency-Key": "k"}))[0]["status"] == 422
    assert not IdempotencyRecord.objects.exists()
    good = api.post("/sends/batch", batch(to("a@example.test")), **{"Idempotency-Key": "k"})
    assert results(good)[0]["status"] == 200


@pytest.mark.django_db(transaction=True)
def test_two_calls_at_once_with_one_key_send_once(api):
    """Lesson C12."""
    body = batch(*(to(f"{n}@example.test", idempotency_key=f"k{n}") for n in range(20)))
    answers = at_once(
        api,
        4,
        lambda client: client.post(
            "/api/console/sends/batch", body, content_type="application/json", headers={"Idempotency-Key": "c"}
        ),
    )
    assert {status for status, _ in answers} == {200}
    assert len({json.dumps(answer, sort_keys=True) for _, answer in answers}) == 1
    assert (Send.objects.count(), Waiting.objects.count()) == (20, 20)


@pytest.mark.django_db(transaction=True)
def test_two_calls_at_once_with_the_same_messages_send_each_once(api):
    """Lesson C12."""
    answers = at_once(
        api,
        4,
        lambda client: client.post(
            "/api/console/sends/batch",
            batch(*(to(f"{n}@example.test", idempotency_key=f"k{n}") for n in range(20))),
            content_type="application/json",
        ),
    )
    assert {result["status"] for _, answer in answers for result in answer["results"]} == {200}
    assert Send.objects.count() == 20


# --- Anything at all ------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=8)
    | st.sampled_from(["{{a}}", "{{", "a\r\nb", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
texts = values | st.sampled_from(["Hi {{a}}", "{{{b}}}", r"\{{", "x"])
fields = {
    "from": st.just("shop@shop.example.test") | values,
    "to": st.just("a@example.test") | values,
    "subject": texts,
    "body_text": texts,
    "body_html": texts,
    "headers": st.dictionaries(st.just("X-A") | st.text(max_size=4), texts, max_size=2) | values,
    "variables": st.dictionaries(st.sampled_from(["a", "b", "c d"]), values, max_size=3) | values,
    "idempotency_key": values,
    "priority": values,
}
messages = st.fixed_dictionaries({}, optional=fields) | values


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shared=st.fixed_dictionaries({}, optional=fields), inner=st.lists(messages, max_size=4) | values)
def test_no_body_is_too_odd_for_an_answer(api, shared, inner):
    """And what is accepted has the size that was said, and can be read again."""
    response = api.post("/sends/batch", json.dumps({**shared, "messages": inner}).encode())
    assert response.status_code in {200, 400, 422}, response.content
    for result in response.json().get("results", ()):
        assert result["status"] in {200, 400, 409, 422}
        if result["status"] == 200:
            send = Send.objects.get(pk=result["id"])
            raw = raw_message(send)
            assert raw is not None
            assert len(raw) >= send.size_bytes
