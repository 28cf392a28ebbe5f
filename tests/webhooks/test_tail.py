"""`manage.py tail`: lines as things happen, from the database alone."""

import json
from itertools import islice
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from projects.events import NewEvent, emit, sequence_outbox
from webhooks.tail import address_of, follow, reason_of


def happen(*events: NewEvent) -> list[int]:
    ids = emit(*events)
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
    return ids


@pytest.mark.django_db(transaction=True)
def test_it_prints_what_happens_after_an_event_of_one_project_and_of_some_kinds(project: Any):
    bounce = {
        "address": "bob@inbox.test",
        "smtp_code": 550,
        "smtp_enhanced_code": "5.1.1",
        "smtp_message": "No such\nuser",
    }
    first, second, _, last = happen(
        NewEvent(project.pk, "domain.created", "domain", 1, {"domain": {"domain": "demo.test"}}),
        NewEvent(project.pk, "send.recipient.bounced", "send", 7, bounce),
        NewEvent(project.pk + 1, "domain.created", "domain", 2, {}),
        NewEvent(project.pk, "domain.deleted", "domain", 1, {"domain": {"domain": "demo.test"}}),
    )
    lines = list(islice(follow(project.pk, first, None, in_full=False), 2))
    assert lines[0].split()[0] == str(second)
    assert " ".join(lines[0].split()[3:]) == "send.recipient.bounced send 7 bob@inbox.test 550 5.1.1 No such user"
    assert lines[1].split()[0] == str(last)
    kinds = frozenset({"domain.deleted"})
    (body,) = (json.loads(line) for line in islice(follow(project.pk, 0, kinds, in_full=True), 1))
    assert (body["id"], body["event"]) == (str(last), "domain.deleted")


@pytest.mark.django_db
def test_nonsense_is_refused_in_a_sentence(project: Any):
    for wrong in ("0", "99999999999999999999", "nobody", "a\0b"):
        with pytest.raises(CommandError, match="No project has"):
            call_command("tail", wrong)
    with pytest.raises(CommandError, match="is no kind of event"):
        call_command("tail", "1", "--kinds", "nothing")
    with pytest.raises(CommandError, match="is not the id of an event"):
        call_command("tail", "1", "--after", "x")


def test_what_a_remote_says_cannot_steer_the_terminal():
    assert "\x1b" not in reason_of({"reason": "\x1b]0;owned\x07 red"})
    assert "\x1b" not in address_of({"address": "a\x1b[31m@x.test"})
    assert (reason_of({}), address_of({"domain": 3})) == ("", "")
