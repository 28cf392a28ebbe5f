"""Mailboxes under attack: nothing is a 500, nothing of others opens, and what is odd is refused by name."""

from typing import Any

import orjson
import pytest
from django.conf import settings as conf
from django.test import Client
from django.utils import timezone

from projects import guesses
from projects.api_keys import create_key
from projects.models import Project
from projects.scopes import Scope
from relay_project.web.errors import Violations
from tests.projects.conftest import alice, bob, charlie, foreign, project  # noqa: F401
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models.mailbox import Mailbox, MailboxItem, TokenKind

URL = "/v1/mailbox/orders"
JSON = "application/json"


@pytest.fixture
def mailbox(project: Project) -> Mailbox:  # noqa: F811
    return create_mailbox(project, "orders", MailboxChange())


@pytest.fixture
def depositor(mailbox: Mailbox) -> dict[str, str]:
    return bearer(create_token(mailbox, TokenKind.DEPOSIT, "shop")[1])


@pytest.fixture
def receiver(mailbox: Mailbox) -> dict[str, str]:
    return bearer(create_token(mailbox, TokenKind.RECEIVE, "worker")[1])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def post(url: str, body: bytes, headers: dict[str, str], kind: str = JSON) -> Any:
    return Client().post(url, body, content_type=kind, headers=headers)  # type: ignore[arg-type]


DEEP = b'{"payload":' + b"[" * 400 + b"]" * 400 + b"}"
BODIES = {
    "deep": (DEEP, JSON, 422),
    "deep-in-batch": (b'{"items":[' + DEEP + b"]}", JSON, 422),
    "far-too-deep": (b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON, 400),
    "lone-surrogate": (rb'{"payload":"\ud800"}', JSON, 400),
    "lone-surrogate-key": (rb'{"payload":1,"key":"\ud800"}', JSON, 400),
    "nul-from": (rb'{"payload":1,"from":"\u0000"}', JSON, 422),
    "infinite": (b'{"payload":1e999}', JSON, 400),
    "not-utf8": (b'{"payload":"\xff"}', JSON, 400),
    "array": (b"[1]", JSON, 400),
    "nothing": (b"", JSON, 422),
    "text": (b"payload=1", "text/plain", 415),
    "multipart": (b"--x--", "multipart/form-data; boundary=x", 415),
    "form-items": (b"items%5B%5D=1", "application/x-www-form-urlencoded", 422),
    "form-ttl": (b"payload=1&ttl_seconds=x", "application/x-www-form-urlencoded", 422),
    "form-not-utf8": (b"payload=\xff", "application/x-www-form-urlencoded", 400),
}


@pytest.mark.parametrize("name", sorted(BODIES))
def test_an_odd_body_is_refused_and_stores_nothing(name: str, depositor: dict[str, str]) -> None:
    body, kind, status = BODIES[name]
    answer = post(URL, body, depositor, kind)
    assert answer.status_code == status, answer.content[:300]
    if status == 422:
        assert answer.json()["violations"][0]["property"]
    assert not MailboxItem.objects.exists()


@pytest.mark.parametrize(
    "payload",
    [rb'"\u0000"', b"18446744073709551615", b'{"":{"\\u0000":1}}', b'"' + "é\u2028😀".encode() + b'"', b"[" * 200 + b"]" * 200],
    ids=["nul", "u64", "nul-member", "unicode", "nested"],
)  # fmt: skip
def test_an_odd_payload_comes_out_as_it_went_in(
    payload: bytes, depositor: dict[str, str], receiver: dict[str, str]
) -> None:
    assert post(URL, b'{"payload":' + payload + b"}", depositor).status_code == 202
    answer = Client().get(f"{URL}/receive", headers=receiver)
    assert answer.json()["items"][0]["payload"] == orjson.loads(payload)


def test_of_a_member_given_twice_the_last_counts(depositor: dict[str, str], receiver: dict[str, str]) -> None:
    assert post(URL, b'{"payload":{"a":1,"a":2},"payload":{"a":3,"a":4}}', depositor).status_code == 202
    [item] = Client().get(f"{URL}/receive", headers=receiver).json()["items"]
    assert item["payload"] == {"a": 4}


def test_a_body_over_the_limit_is_refused_before_it_is_read(depositor: dict[str, str]) -> None:
    answer = Client().post(
        URL, b"{}", content_type=JSON, headers=depositor, CONTENT_LENGTH=str(conf.MAX_REQUEST_BYTES + 1)
    )
    assert answer.status_code == 413


@pytest.mark.parametrize("ids", [b"[1.0]", b"[null]", b"[[1]]", b"[true]", b'"1"', b'{"0":1}', b"[1e40]"])
def test_ids_that_are_none_are_refused_by_name(ids: bytes, receiver: dict[str, str]) -> None:
    answer = post(f"{URL}/ack", b'{"ids":' + ids + b"}", receiver)
    assert answer.status_code == 422
    assert answer.json()["violations"][0]["property"].startswith("ids")


def test_ids_of_others_and_of_no_kind_are_unknown(
    project: Project,  # noqa: F811
    receiver: dict[str, str],
) -> None:
    other = create_mailbox(project, "other", MailboxChange())
    deposited = post(
        "/v1/mailbox/other", b'{"payload":1}', bearer(create_token(other, TokenKind.DEPOSIT, "")[1])
    ).json()
    odd = [deposited["id"], "9" * 30, "-1", "0", "1\0", "٣", " 1", str(2**63), "\U0001f600"]
    answer = Client().post(f"{URL}/ack", {"ids": [*odd, 2**64 - 1]}, content_type=JSON, headers=receiver)
    assert answer.status_code == 200
    assert answer.json()["acked"] == []
    assert len(answer.json()["unknown"]) == len(odd) + 1
    assert MailboxItem.objects.get().acked_at is None


@pytest.mark.parametrize("name", ["a%00b", "%ED%A0%80", "%ff", "a" * 3000, "..%2Forders", "orders%2Freceive", "%2e%2e"])
def test_an_odd_name_opens_nothing(
    name: str,
    project: Project,  # noqa: F811
    depositor: dict[str, str],
) -> None:
    _, key = create_key(project, "App", [Scope.WEBHOOKS_WRITE])
    for headers in (depositor, bearer(key)):
        answer = post(f"/v1/mailbox/{name}", b'{"payload":1}', headers)
        assert answer.status_code in (403, 404, 405), answer.content[:200]
    assert not MailboxItem.objects.exists()


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "a\0", "a b", "", "a" * 256, "\ud800", "a?b", "a#b", "a%2Fb", "a%00", "a%3"]
)
def test_a_name_that_no_path_holds_is_refused(name: str, project: Project) -> None:  # noqa: F811
    with pytest.raises(Violations) as refusal:
        create_mailbox(project, name, MailboxChange())
    assert refusal.value.violations[0].property == "name"


def test_keys_of_other_projects_and_without_the_scope_deposit_nothing(
    mailbox: Mailbox,
    project: Project,  # noqa: F811
    foreign: Project,  # noqa: F811
) -> None:
    _, theirs = create_key(foreign, "App", [Scope.WEBHOOKS_WRITE])
    _, ours = create_key(project, "App", [Scope.WEBHOOKS_READ])
    _, right = create_key(project, "App", [Scope.WEBHOOKS_WRITE])
    found = [post(URL, b'{"payload":1}', bearer(key)).status_code for key in (theirs, ours, right)]
    assert found == [404, 403, 202]


def test_methods_that_are_none_take_nothing(depositor: dict[str, str], receiver: dict[str, str]) -> None:
    post(URL, b'{"payload":1}', depositor)
    for method in ("HEAD", "OPTIONS", "DELETE", "TRACE"):
        for what in ("", "/receive", "/ack"):
            answer = Client().generic(method, URL + what, headers=receiver)
            assert (answer.status_code, bool(answer["Allow"])) == (405, True)
    assert MailboxItem.objects.get().receive_count == 0


def test_a_flood_of_wrong_tokens_waits_and_the_right_one_goes_on(
    depositor: dict[str, str], receiver: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S6: also of keys where only a mailbox's token receives, each of which was counted and none refused."""
    monkeypatch.setattr(guesses, "WRONG", guesses.Rate("wrong keys", 3, 60))
    assert post(URL, b'{"payload":1}', depositor).status_code == 202
    found = [Client().get(f"{URL}/receive", headers=bearer(f"rk_{n}")).status_code for n in range(5)]
    assert found == [403, 403, 403, 429, 429]
    assert Client().get(f"{URL}/receive", headers=bearer("mbx_wrong")).status_code == 429
    assert post(URL, b'{"payload":2}', depositor).status_code == 202


def test_an_archived_project_gives_and_takes_nothing(
    mailbox: Mailbox, depositor: dict[str, str], receiver: dict[str, str]
) -> None:
    Project.objects.filter(pk=mailbox.project_id).update(archived_at=timezone.now())
    assert post(URL, b'{"payload":1}', depositor).status_code == 403
    assert Client().get(f"{URL}/receive", headers=receiver).status_code == 403
