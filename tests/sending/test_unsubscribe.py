"""Unsubscribing by a link: the header, the page, the click, and taking it back."""

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from projects.models import Event, Project
from relay_project.db.keyring import ring
from relay_project.db.rates import sweep
from relay_project.mail.unsubscribe import Subscription, make_token
from sending.accept.request import ListUnsubscribe, Refused
from sending.content import raw_message
from sending.models import Recipient, Send, Suppression
from sending.unsubscribe import PURPOSE, LinkIsOver, read_link
from sending.unsubscribe_page import veiled
from tests.sending.scene import Scene

ANN = "Ann@one.example"
A_LINK = ListUnsubscribe()
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def link_of(scene: Scene, wish: ListUnsubscribe = A_LINK, **fields: Any) -> tuple[Send, str]:
    """A send, and the path of the link in its header."""
    accepted = scene.send(ANN, list_unsubscribe=wish, **fields)
    send = Send.objects.get(pk=accepted.send_id)
    found = re.match(r"<http://127\.0\.0\.1:8000(/unsubscribe/[\w-]+)>", send.list_unsubscribe or "")
    assert found, send.list_unsubscribe
    return send, found[1]


def click(path: str, data: Any = ONE_CLICK, **extra: Any) -> HttpResponse:
    return Client(enforce_csrf_checks=True).post(path, data, **extra)


# --- The header ----------------------------------------------------------------------------------------------------


def test_both_fields_are_there_and_signed(scene: Scene) -> None:
    """RFC 8058 §3.1: both fields, covered by a signature."""
    send, path = link_of(scene)
    raw = raw_message(send)
    assert raw is not None
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["List-Unsubscribe"] == f"<http://127.0.0.1:8000{path}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    signature = re.sub(r"\s", "", str(message["DKIM-Signature"]))
    names = re.search(r"[; ]h=([^;]+);", signature)
    assert names is not None
    assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(names[1].split(":"))


def test_the_link_is_one_word_of_one_line(scene: Scene) -> None:
    send, path = link_of(scene)
    raw = raw_message(send) or b""
    assert f"<http://127.0.0.1:8000{path}>".encode() in raw, "neither folded nor encoded"


def test_an_address_for_mail_stands_behind_the_link(scene: Scene) -> None:
    """RFC 2369 §3.2."""
    send, _ = link_of(scene, ListUnsubscribe("leave+news@shop.example"))
    assert (send.list_unsubscribe or "").endswith(">, <mailto:leave%2Bnews@shop.example?subject=unsubscribe>")


def test_the_bytes_stay_the_same_when_the_secret_changes(scene: Scene, settings: Any) -> None:
    send, _ = link_of(scene)
    before = raw_message(send)
    settings.APP_SECRETS = ["another secret of thirty-two letters", *settings.APP_SECRETS]
    settings.WEB_URL = "https://elsewhere.example"
    assert raw_message(Send.objects.get(pk=send.pk)) == before


def test_without_the_wish_there_is_no_field(scene: Scene) -> None:
    raw = raw_message(Send.objects.get(pk=scene.send(ANN, list="news").send_id)) or b""
    assert b"List-Unsubscribe" not in raw


@pytest.mark.parametrize("header", ["List-Unsubscribe", "list-unsubscribe-post"])
def test_two_such_fields_are_refused(scene: Scene, header: str) -> None:
    with pytest.raises(Refused, match="not both") as refused:
        scene.send(ANN, list_unsubscribe=A_LINK, headers=((header, "<https://x.example>"),))
    assert (refused.value.status, refused.value.field) == (422, "list_unsubscribe")


def test_a_mail_to_several_is_refused(scene: Scene) -> None:
    """The link would be the same for all of them: any could unsubscribe the others."""
    with pytest.raises(Refused, match="one recipient") as refused:
        scene.send(ANN, "bob@one.example", list_unsubscribe=A_LINK)
    assert (refused.value.status, refused.value.field) == (422, "list_unsubscribe")


# --- The click -----------------------------------------------------------------------------------------------------


def test_one_click_suppresses_in_the_project(scene: Scene) -> None:
    send, path = link_of(scene)
    answer = click(path)
    assert (answer.status_code, answer.cookies) == (200, {})
    row = Suppression.objects.get()
    assert (row.project_id, row.list, row.email, row.reason) == (scene.project.pk, None, ANN.lower(), "unsubscribe")
    event = Event.objects.get(kind="suppression.created")
    recipient = Recipient.objects.get(send_id=send.pk)
    assert (event.project_id, event.subject_id) == (scene.project.pk, row.pk)
    assert (event.payload["send_id"], event.payload["recipient_id"]) == (send.pk, recipient.pk)
    assert event.payload["reason"] == "unsubscribe"
    assert scene.statuses(scene.send(ANN)) == ["suppressed"]


def test_one_click_in_a_lists_mail_suppresses_in_the_list(scene: Scene) -> None:
    _, path = link_of(scene, list="news")
    click(path)
    assert scene.statuses(scene.send(ANN, list="news")) == ["suppressed"]
    assert scene.statuses(scene.send(ANN, list="offers")) == ["queued"]


def test_one_click_as_multipart_is_understood(scene: Scene) -> None:
    """RFC 8058 §3.2: multipart/form-data SHOULD be used; Django's client sends that."""
    _, path = link_of(scene)
    assert (
        click(path, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded").status_code == 200
    )
    assert click(path, ONE_CLICK).status_code == 200
    assert Suppression.objects.count() == 1
    assert Event.objects.filter(kind="suppression.created").count() == 1, "lesson C7: the second changes nothing"


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_unsubscribes_nobody(scene: Scene, method: str) -> None:
    """Scanners follow every link of a mail before its reader does."""
    _, path = link_of(scene)
    for _ in range(3):
        assert getattr(Client(), method)(path).status_code == 200
    assert not Suppression.objects.exists()


def test_the_page_asks_does_and_takes_back(scene: Scene) -> None:
    _, path = link_of(scene, list="news")
    page = Client().get(path)
    assert "Unsubscribe?" in page.content.decode()
    assert "shop.example" in page.content.decode()
    assert "A•••@one.example" in page.content.decode()
    assert ANN not in page.content.decode()
    assert (page["Referrer-Policy"], page["X-Robots-Tag"], page.cookies) == ("no-referrer", "noindex", {})
    done = click(path, {"do": "unsubscribe"})
    assert (done.status_code, done["Location"]) == (303, path)
    assert "You are unsubscribed" in Client().get(path).content.decode()
    undone = click(path, {"do": "resubscribe"})
    assert (undone.status_code, undone["Location"]) == (303, path)
    assert not Suppression.objects.exists()
    kinds = Event.objects.filter(kind__startswith="suppression.").order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["suppression.created", "suppression.deleted"]


@pytest.mark.parametrize("reason", ["bounce", "complaint", "manual"])
def test_the_link_lifts_nothing_but_its_own_click(scene: Scene, reason: str) -> None:
    _, path = link_of(scene)
    Suppression.objects.create(project=scene.project, email=ANN.lower(), reason=reason)
    click(path)
    assert "Subscribe again" not in Client().get(path).content.decode()
    click(path, {"do": "resubscribe"})
    assert Suppression.objects.get().reason == reason


def test_an_end_that_somebody_set_is_no_longer_one(scene: Scene) -> None:
    _, path = link_of(scene)
    Suppression.objects.create(
        project=scene.project, email=ANN.lower(), reason="manual", expires_at=datetime.now(UTC) + timedelta(days=1)
    )
    click(path)
    assert Suppression.objects.get().expires_at is None


def test_a_test_keys_mail_unsubscribes_nobody(scene: Scene) -> None:
    _, path = link_of(scene, is_test=True)
    assert click(path).status_code == 200
    assert not Suppression.objects.exists()


def test_the_link_works_when_the_mail_is_gone(scene: Scene) -> None:
    send, path = link_of(scene)
    for model in (Recipient, Send):
        model.objects.filter(**{"send_id" if model is Recipient else "pk": send.pk}).delete()
    assert click(path).status_code == 200
    assert Suppression.objects.count() == 1


# --- Links that are none -------------------------------------------------------------------------------------------


def token_of(path: str) -> str:
    return path.rpartition("/")[2]


def test_all_that_is_wrong_with_a_link_looks_alike(scene: Scene, settings: Any) -> None:
    """No oracle: forged, cut, too old, and of a project that is gone."""
    send, path = link_of(scene)
    gone = make_token(Subscription(999_999, send.pk, send.pk, ANN, "shop.example"), ring(PURPOSE))
    forged = make_token(Subscription(scene.project.pk, send.pk, send.pk, ANN, "shop.example"), [b"x" * 32])
    old = make_token(Subscription(scene.project.pk, 1 << 12, 1, ANN, "shop.example"), ring(PURPOSE))
    settings.UNSUBSCRIBE_LINK_DAYS = 90
    answers = [
        getattr(Client(), method)(f"/unsubscribe/{token}")
        for token in (gone, forged, old, token_of(path)[:-4], "x", "ä", "%00")
        for method in ("get", "post")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert not Suppression.objects.exists()


def test_links_of_an_older_secret_work_while_it_is_kept(scene: Scene, settings: Any) -> None:
    _, path = link_of(scene)
    before = list(settings.APP_SECRETS)
    settings.APP_SECRETS = ["another secret of thirty-two letters", *before]
    assert read_link(token_of(path), datetime.now(UTC)).address == ANN
    settings.APP_SECRETS = ["another secret of thirty-two letters"]
    with pytest.raises(LinkIsOver):
        read_link(token_of(path), datetime.now(UTC))


def test_guessing_is_slowed_down_and_clicking_too(scene: Scene) -> None:
    _, path = link_of(scene)
    answers = [Client().get("/unsubscribe/x") for _ in range(31)]
    assert [answer.status_code for answer in answers] == [404] * 30 + [429]
    assert int(answers[-1]["Retry-After"]) >= 1
    assert [click(path).status_code for _ in range(21)] == [200] * 20 + [429]
    sweep(datetime.now(UTC) + timedelta(days=2))


def test_a_large_body_is_refused_unread(scene: Scene) -> None:
    _, path = link_of(scene)
    assert click(path, "x" * 20_000, content_type="application/x-www-form-urlencoded").status_code == 413
    assert Client().put(path).status_code == 405


@pytest.mark.parametrize(("address", "shown"), [("ann@x.example", "a•••@x.example"), ("a@x.example", "a•••@x.example")])
def test_a_veiled_address_hides_the_local_part(address: str, shown: str) -> None:
    assert veiled(address) == shown


def test_projects_that_are_deleted_take_their_rows_along(scene: Scene) -> None:
    other = Project.objects.create(name="Gone", send_type="transactional")
    Suppression.objects.create(project=other, email="a@x.example", reason="manual")
    Suppression.objects.create(list_project=other, list="news", email="a@x.example", reason="manual")
    other.delete()
    assert not Suppression.objects.exists()
