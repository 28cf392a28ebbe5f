"""Suspended and archived projects over the API and in the console."""

import pytest
from django.utils import timezone

from projects.life import resume, suspend
from projects.limits import set_limits
from projects.models import Project
from sending.models import Recipient, Send
from tests.sending.api.conftest import mail

pytestmark = pytest.mark.django_db
RATE = "X-RateLimit-Limit"


def test_a_suspended_project_is_told_why_it_may_not_send_from_the_next_request_on(api, project):
    send_id = api.send()
    suspend(project, "A leaked key sent spam", timezone.now())
    refused = api.post("/sends", mail())
    text = "This project is suspended: A leaked key sent spam"
    assert (refused.status_code, refused.json()) == (403, {"message": text, "status": 403})
    assert RATE not in refused.headers, "nothing was counted"
    Recipient.objects.update(status="failed")
    assert Send.objects.count() == 1
    shown = api.get(f"/sends/{send_id}").json()
    assert api.get("/sends").status_code == 200, "everything but sending goes on"
    assert shown["recipients"][0]["why"]["kind"] in ("project_suspended", "final")
    resume(project, timezone.now())
    assert api.post("/sends", mail()).status_code == 200


def test_a_project_is_archived_over_the_api_with_what_waits(api, project):
    api.send(to=["a@example.test", "b@example.test"])
    kept = api.post("/project/archive")
    assert (kept.status_code, kept.json()["message"][:40]) == (400, "2 of this project's recipients still wai")
    assert api.post("/project/archive", {"cancel_waiting": "yes"}).status_code == 422
    done = api.post("/project/archive", {"cancel_waiting": True})
    assert done.json() == {"id": project.pk, "status": "archived", "cancelled_recipients": 2}
    assert set(Recipient.objects.values_list("status", flat=True)) == {"cancelled"}
    after = api.post("/project/archive", {"cancel_waiting": True})
    assert (after.status_code, after.json()["message"]) == (403, "This project is archived.")
    assert api.post("/sends", mail()).status_code == 403


def test_archiving_needs_the_scope(keyed):
    assert keyed("project.read").post("/project/archive").status_code == 403


def test_the_console_asks_before_it_archives_and_shows_a_suspension(api, project, alice, bob, client):
    api.send()
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    page, path = client.get(f"/console/{project.pk}/settings").content.decode(), f"/console/{project.pk}/archive"
    assert f'href="{path}"' in page
    assert "Cancel the 1 recipient that still waits" in client.get(path).content.decode()
    refused = client.post(path)
    assert (refused.status_code, Project.objects.get(pk=project.pk).archived_at) == (400, None)
    suspend(project, "A leaked <key>", timezone.now())
    assert "This project is suspended: A leaked &lt;key&gt;" in client.get(path).content.decode()
    done = client.post(path, {"cancel_waiting": "on"}, follow=True)
    assert "Shop is archived. 1 recipient that waited will get nothing." in done.content.decode()
    client.force_login(bob, backend="accounts.sign_in.PasswordBackend")
    assert client.get(path).status_code == 404


def test_a_member_who_may_not_write_archives_nothing(project, bob, client, instance):
    client.force_login(bob, backend="accounts.sign_in.PasswordBackend")
    assert client.post(f"/console/{project.pk}/archive").status_code == 403
    assert Project.objects.get(pk=project.pk).archived_at is None


def test_a_batch_of_a_suspended_project_is_refused_as_a_whole(api, project):
    suspend(project, "spam", timezone.now())
    refused = api.post("/sends/batch", {"messages": [mail(), mail()]})
    assert (refused.status_code, refused.json()["message"]) == (403, "This project is suspended: spam")
    assert RATE not in refused.headers


def test_nothing_is_tried_again_in_a_suspended_project(api, project):
    send_id = api.send()
    suspend(project, "spam", timezone.now())
    refused = api.post(f"/sends/{send_id}/retry", {})
    assert (refused.status_code, refused.json()["message"]) == (403, "This project is suspended: spam")


def test_a_batch_counts_its_messages_against_the_projects_limits(api, project):
    set_limits(project, {"sends_per_day": 5})
    assert api.post("/sends/batch", {"messages": [mail()] * 3}).status_code == 200
    over = api.post("/sends/batch", {"messages": [mail()] * 3})
    assert over.status_code == 429
    assert (over["X-RateLimit-Limit"], over["X-RateLimit-Remaining"]) == ("5", "2")
    assert int(over["Retry-After"]) > 0
    assert api.post("/sends/batch", {"messages": [mail()] * 2}).status_code == 200
    assert Send.objects.count() == 5
