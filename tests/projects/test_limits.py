"""Limits of projects: the contract's §1.5 and what staff may set; exact over all web processes."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.http import HttpRequest

from accounts.models import AuditEntry
from projects.access import Caller
from projects.api_keys import create_key
from projects.limits import NAMES, bounds_of, limits_of, set_limits
from projects.models import ApiKey, Membership, Project
from projects.throttle import use_request, use_sends
from relay_project.db import rates
from relay_project.web.errors import ApiError, Violations

NAMES_OF_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
TOO_MANY = "Rate limit exceeded. Please try again later in {} seconds."


@pytest.fixture(autouse=True)
def contract(settings) -> None:
    """The numbers of the contract, which the suite otherwise leaves alone."""
    settings.REQUESTS_PER_MINUTE, settings.SESSION_REQUESTS_PER_MINUTE, settings.SENDS_PER_SECOND = 100, 60, 10


@pytest.fixture
def clock(monkeypatch) -> Iterator[list[float]]:
    """The database's clock, standing at noon; [0] is seconds after it."""
    passed = [0.0]
    real = rates.spend

    def spend(subject, cost, caps, now=None):
        moment = datetime.fromtimestamp(NOON + passed[0], UTC)
        return real(subject, cost, caps, moment)

    monkeypatch.setattr("projects.throttle.spend", spend)
    return passed


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


def told(response) -> tuple[str | None, ...]:
    return tuple(response.headers.get(name) for name in NAMES_OF_HEADERS)


# --- Requests --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_key_may_ask_a_hundred_times_a_minute_and_is_told_so_each_time(project, clock, client):
    _, token = create_key(project, "k", ["project.read"])
    ask = lambda path="/project": client.get(  # noqa: E731
        f"/api/console{path}", headers={"Authorization": f"Bearer {token}"}
    )
    assert told(ask()) == ("100", "99", "0")
    for _ in range(98):
        ask()
    clock[0] = 12
    last = ask()
    assert (last.status_code, told(last)) == (200, ("100", "0", "48"))
    over = ask()
    assert (over.status_code, over.json()) == (429, {"message": TOO_MANY.format(48), "status": 429})
    assert (told(over), over["Retry-After"]) == (("100", "0", "48"), "48")
    clock[0] = 60
    assert told(ask()) == ("100", "99", "0"), "a new minute"


@pytest.mark.django_db
def test_every_answer_after_authentication_tells_the_rate_and_none_before(project, clock, client):
    _, token = create_key(project, "k", ["project.read", "project.write"])
    auth = {"Authorization": f"Bearer {token}"}
    json = {"content_type": "application/json"}
    path = "/api/console/project"
    assert told(client.patch(path, '{"name": 5}', headers=auth, **json)) == ("100", "99", "0"), "422 counts"
    assert told(client.patch(path, "{", headers=auth, **json)) == ("100", "98", "0"), "400"
    assert told(client.delete(path, headers=auth)) == ("100", "97", "0"), "405"
    assert told(client.get(path, headers={**auth, "X-Idempotency-Key": "x"})) == ("100", "96", "0"), "400"
    assert told(client.get("/api/console/domains", headers=auth)) == (None,) * 3, "403, a scope is missing"
    assert told(client.get(path, headers={"Authorization": "Bearer nonsense"})) == (None,) * 3, "403"
    assert told(client.get(path)) == (None,) * 3, "401"
    assert told(client.get("/api/console/nowhere", headers=auth)) == (None,) * 3, "404, before authentication"
    assert told(client.get(path, headers=auth)) == ("100", "95", "0"), "nothing of that counted"


@pytest.mark.django_db
def test_a_person_may_ask_sixty_times_a_minute_in_all_projects_together(project, alice, signed_in, clock):
    in_project, outside = signed_in(alice, project), signed_in(alice)
    for _ in range(30):
        assert in_project.get("/project")[0] == 200
        assert outside.get("/init")[0] == 200
    assert in_project.get("/project") == (429, {"message": TOO_MANY.format(60), "status": 429})
    assert outside.get("/init")[0] == 429


@pytest.mark.django_db
def test_a_project_with_a_number_of_its_own_counts_its_people_by_itself(project, foreign, alice, signed_in, clock):
    Membership.objects.create(project=foreign, user=alice, scopes=["project.read"])
    set_limits(project, {"session_requests_per_minute": 2})
    here, there = signed_in(alice, project), signed_in(alice, foreign)
    assert [here.get("/project")[0] for _ in range(3)] == [200, 200, 429]
    assert there.get("/project")[0] == 200


@pytest.mark.django_db
def test_keys_have_their_own_minutes(project, keyed, clock):
    set_limits(project, {"requests_per_minute": 1})
    one, other = keyed("project.read"), keyed("project.read")
    assert [one.get("/project")[0], one.get("/project")[0], other.get("/project")[0]] == [200, 429, 200]


# --- Sends -----------------------------------------------------------------------------------------------------------


def caller(project: Project, *, by_key: bool = True) -> Caller:
    key = create_key(project, "k", ["project.read"])[0] if by_key else None
    user = None if by_key else project.memberships.order_by("pk").first().user
    return Caller(frozenset(), Project.objects.get(pk=project.pk), user=user, api_key=key)


def sends(who: Caller, *costs: int) -> list[str]:
    """`ok` or the refusal for each call."""
    answers = []
    for cost in costs:
        try:
            use_sends(HttpRequest(), who, cost)
            answers.append("ok")
        except ApiError as error:
            answers.append(f"{error.status} {error.message}")
    return answers


@pytest.mark.django_db
def test_a_project_may_send_ten_a_second_by_all_its_keys_together(project, clock):
    one, other = caller(project), caller(project)
    assert Counter(sends(one, *[1] * 6) + sends(other, *[1] * 6)) == {"ok": 10, f"429 {TOO_MANY.format(1)}": 2}
    clock[0] = 1
    assert sends(one, 1) == ["ok"]


@pytest.mark.django_db
def test_hours_and_days_name_the_limit_that_is_reached(project, clock):
    who = caller(set_limits(project, {"sends_per_hour": 3, "sends_per_day": 4}))
    clock[0] = 600
    assert sends(who, 1, 1, 1, 1)[2:] == [
        "ok",
        "429 Rate limit exceeded. This project may send 3 messages per hour. Please try again later in 3000 seconds.",
    ]
    clock[0] = 3600
    assert sends(who, 1, 1)[1].startswith("429 Rate limit exceeded. This project may send 4 messages per day.")


@pytest.mark.django_db
def test_a_batch_counts_its_messages_and_passes_as_a_whole_or_not_at_all(project, clock):
    who = caller(set_limits(project, {"sends_per_hour": 100}))
    assert sends(who, 101) == ["400 One call with 101 messages is more than this project's limit of 100 per hour."]
    assert sends(who, 70) == ["ok"]
    clock[0] = 8
    assert [answer[:3] for answer in sends(who, 31, 30)] == ["429", "ok"]


@pytest.mark.django_db
def test_a_persons_sends_have_the_pace_of_their_requests_and_the_projects_hours(project, clock):
    who = caller(set_limits(project, {"sends_per_hour": 20}), by_key=False)
    assert Counter(answer[:3] for answer in sends(who, *[1] * 25)) == {"ok": 20, "429": 5}


@pytest.mark.django_db(transaction=True)
def test_of_many_processes_at_once_exactly_as_many_sends_pass_as_the_limit_says(settings):
    """Exact over all web processes: each has its own connection, as gunicorn's workers have."""
    project = Project.objects.create(name="Shop", send_type="transactional")
    key, _ = create_key(set_limits(project, {"sends_per_hour": 50, "sends_per_second": 1000}), "k", ["project.read"])
    connection.close()  # a forked process must not share it
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = Counter(one for found in pool.map(_ask, [key.pk] * 4) for one in found)
    assert answers == {"ok": 50, "429": 50}


def _ask(key_id: int) -> list[str]:
    key = ApiKey.objects.select_related("project").get(pk=key_id)
    answers = sends(Caller(frozenset(), key.project, api_key=key), *[1] * 25)
    connection.close()
    return [answer[:3] for answer in answers]


# --- A project's own numbers -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_defaults_are_the_settings(project, settings):
    settings.SENDS_PER_DAY = 5000
    limits = limits_of(project)
    assert (limits.requests_per_minute, limits.session_requests_per_minute, limits.sends_per_second) == (100, 60, 10)
    assert (limits.sends_per_hour, limits.sends_per_day) == (0, 5000)
    assert (limits.recipients_per_send, limits.message_bytes) == (20, 10 * 1024 * 1024)


@pytest.mark.django_db
def test_staff_set_them_and_take_them_back(project, sam):
    by = Caller(frozenset(), user=sam)
    project = set_limits(project, {"sends_per_second": 500, "recipients_per_send": 5}, by)
    assert (limits_of(project).sends_per_second, limits_of(project).recipients_per_send) == (500, 5)
    project = set_limits(project, {"sends_per_second": None}, by)
    assert (limits_of(project).sends_per_second, limits_of(project).recipients_per_send) == (10, 5)
    set_limits(project, {"recipients_per_send": 5}, by)
    first, second = AuditEntry.objects.filter(action="project.limits_set").order_by("pk")
    assert first.detail == {
        "limits": {"sends_per_second": 500, "recipients_per_send": 5},
        "was": {"sends_per_second": None, "recipients_per_send": None},
    }
    assert second.detail["was"] == {"sends_per_second": 500}


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMES)
def test_a_number_out_of_its_bounds_is_refused_with_its_name(project, name):
    least, most = bounds_of(name)
    for number in (least - 1, most + 1, -(2**70), 2**70):
        with pytest.raises(Violations) as refused:
            set_limits(project, {name: number})
        assert refused.value.violations[0].property == name
    set_limits(project, {name: least})
    set_limits(project, {name: most})


@pytest.mark.django_db
def test_an_unknown_limit_is_refused(project):
    with pytest.raises(Violations, match="There is no such limit"):
        set_limits(project, {"mails": 5})


@pytest.mark.django_db
def test_a_project_sees_its_limits_and_their_present_use(project, keyed):
    set_limits(project, {"sends_per_day": 1000})
    api = keyed("project.read")
    use_sends(HttpRequest(), caller(project), 3)
    status, body = api.get("/project/limits")
    assert status == 200
    assert body["limits"] == {
        "requests_per_minute": 100, "session_requests_per_minute": 60, "sends_per_second": 10, "sends_per_hour": None,
        "sends_per_day": 1000, "recipients_per_send": 20, "message_bytes": 10485760,
    }  # fmt: skip
    assert {name: one["used"] for name, one in body["use"].items()} == {
        "requests_per_minute": 1, "sends_per_hour": 3, "sends_per_day": 3,
    }  # fmt: skip
    assert 0 < body["use"]["sends_per_day"]["reset_seconds"] <= 86_400


@pytest.mark.django_db
def test_a_person_sees_their_own_requests(project, alice, signed_in):
    body = signed_in(alice, project).get("/project/limits")[1]
    assert body["use"]["session_requests_per_minute"]["used"] == 1


@pytest.mark.django_db
def test_counting_a_request_is_one_statement(project, django_assert_num_queries):
    who = caller(project)
    with django_assert_num_queries(1):
        use_request(HttpRequest(), who)
    with django_assert_num_queries(1):
        use_sends(HttpRequest(), who)


@pytest.mark.django_db
def test_the_settings_page_shows_limits_and_use(project, alice, client):
    use_sends(HttpRequest(), caller(set_limits(project, {"sends_per_day": 5000, "message_bytes": 1536 * 1024})), 7)
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    page = client.get(f"/console/{project.pk}/settings").content.decode()
    assert "5,000 messages" in page
    assert "(7 used; the day ends in" in page
    assert "1536KB of one message" in page
