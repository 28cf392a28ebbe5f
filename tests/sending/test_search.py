"""sending.search: whatever way a send is found, it is the one that fits, and the newest come first."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from projects.models import Project
from relay_project.db.partitions import partition_name
from sending import search as module
from sending.models import ReaderPosition, Recipient, SearchText, Send
from sending.search import SendFilter, find_sends
from sending.search_terms import is_inside, pattern
from tests.history import ago, happened
from tests.sending.rollup import take
from tests.sending.scene import Scene, nodes, plans

ADDRESSES = ("Ann.Smith@one.example", "ann@two.example", "bob_1@one.example", "x%y@two.example", "zoë@three.example")
SUBJECTS = ("Your Order 1234", "[News] of May", "100% off_now", "Grüße aus Köln", "re: order", "", "注文の確認")
TAGS = ((), ("may",), ("may", "news"))


@pytest.fixture(params=["looked at", "index", "both"])
def mail(request: Any, scene: Scene, monkeypatch: Any) -> Scene:
    """Fifty sends of two projects; found by looking at them, by the index, or the newest ones in either way."""
    for name, number in (("LOOKED_AT", 3), ("CHECKED", 4), ("PROPOSED", 5), ("BEFORE_INDEX", 6), ("COMMON", 2)):
        if request.param != "looked at":
            monkeypatch.setattr(module, name, number)
    chance, other = random.Random(4), scene.other_project()
    for number in range(50):
        accepted = scene.send(
            *chance.sample(ADDRESSES, chance.choice((1, 1, 2, 3))),
            project=other if number % 5 == 0 else None,
            subject=chance.choice(SUBJECTS),
            tags=chance.choice(TAGS),
        )
        for recipient in Recipient.objects.filter(send_id=accepted.send_id):
            recipient.status = chance.choice(("accepted", "bounced", "queued"))
            recipient.save()
        if request.param == "both" and number == 30:
            take()
            ReaderPosition.objects.filter(name="newcomers").update(position=accepted.send_id + 1)
    if request.param == "index":
        take()
    return scene


def fits(send: Send, people: Sequence[Recipient], wanted: SendFilter) -> bool:
    """The same, said plainly."""

    def has(value: str, text: str | None, is_case_sensitive: bool) -> bool:
        if text is None:
            return True
        value, text = (value, text) if is_case_sensitive else (value.lower(), text.lower())
        return text in value if is_inside(text) else value.startswith(text)

    return (
        has(send.from_address, wanted.from_text, wanted.is_case_sensitive)
        and has(send.subject or "", wanted.subject_text, False)
        and (wanted.from_address is None or send.from_address.lower() == wanted.from_address.lower())
        and (wanted.tag is None or wanted.tag in (send.tags or ()))
        and any(
            has(person.address, wanted.to_text, wanted.is_case_sensitive)
            and wanted.status in (None, person.status)
            and (wanted.to_address is None or person.address.lower() == wanted.to_address.lower())
            for person in people
        )
    )


QUESTIONS = [
    {"to_text": "ann"},
    {"to_text": "Ann", "is_case_sensitive": True},
    {"to_text": "ANN", "is_case_sensitive": True},
    {"to_text": "one.example"},
    {"to_text": "nobody"},
    {"to_text": "b"},
    {"to_text": "zo"},
    {"to_text": "qq"},
    {"to_text": "%"},
    {"to_text": "x%y"},
    {"to_text": "b_1"},
    {"to_text": "@two"},
    {"to_address": "ANN.SMITH@one.example"},
    {"to_address": "one.example"},
    {"to_address": "ann@two.example", "status": "bounced"},
    {"from_text": "shop"},
    {"from_text": "ap"},
    {"from_text": "other"},
    {"from_address": "App@shop.example"},
    {"from_address": "app@other.example"},
    {"subject_text": "order"},
    {"subject_text": "ORDER 12"},
    {"subject_text": "[N"},
    {"subject_text": "["},
    {"subject_text": "% off_"},
    {"subject_text": "köln"},
    {"subject_text": "注文の"},
    {"subject_text": "---"},
    {"status": "bounced"},
    {"status": "failed"},
    {"status": "bounced", "to_text": "ann"},
    {"status": "bounced", "to_text": "ann", "subject_text": "order"},
    {"tag": "may"},
    {"tag": "news", "to_text": "ann"},
    {"tag": "news", "status": "bounced", "subject_text": "order"},
    {"tag": "june"},
    {"to_text": "ann", "from_text": "shop", "subject_text": "order", "status": "accepted", "tag": "may"},
]


def test_every_question_has_the_answer_that_looking_at_each_send_gives(mail: Scene) -> None:
    """Lesson P9, and a status together with an address, which the contract's server answers with an error."""
    everything = list(Send.objects.filter(project_id=mail.project.pk).order_by("-id"))
    people = {send.pk: list(Recipient.objects.filter(send_id=send.pk)) for send in everything}
    for question in QUESTIONS:
        wanted = SendFilter(**question)
        right = [send.pk for send in everything if fits(send, people[send.pk], wanted)]
        for limit in (100, 7, 1):
            assert [send.pk for send in find_sends(mail.project.pk, wanted, limit)] == right[:limit], (question, limit)
        paged: list[int] = []
        while page := find_sends(mail.project.pk, wanted, 3, paged[-1] if paged else None):
            paged += [send.pk for send in page]
        assert paged == right, question


def test_a_tenant_finds_nothing_of_another_one(mail: Scene) -> None:
    stranger = Project.objects.create(name="Stranger", send_type="transactional")
    for question in QUESTIONS:
        assert find_sends(stranger.pk, SendFilter(**question), 100) == [], question


def test_older_days_are_found_by_the_index_and_dates_leave_days_out(
    open_scene: Scene, old_days: Callable[..., None], monkeypatch: Any
) -> None:
    scene = open_scene
    monkeypatch.setattr(module, "LOOKED_AT", 1)
    old_days(ago(9), ago(5), ago(1))
    shop = {"domain": scene.domain, "queue": scene.queue}
    old = [happened(scene.project, ago(days), address=f"ann{days}@one.example", **shop) for days in (9, 5, 1)]
    take()
    assert SearchText.objects.count() == 3
    found = find_sends(scene.project.pk, SendFilter(to_text="ann"), 10)
    assert [send.pk for send in found] == [send.pk for send in reversed(old)]
    assert [s.pk for s in find_sends(scene.project.pk, SendFilter(to_text="ann9"), 10)] == [old[0].pk]
    assert [s.pk for s in find_sends(scene.project.pk, SendFilter(to_address="ann5@one.example"), 10)] == [old[1].pk]
    from_then = SendFilter(to_text="ann", date_from=old[1].message_date)
    assert len(find_sends(scene.project.pk, from_then, 10)) == 2
    assert find_sends(scene.project.pk, SendFilter(to_text="ann", date_to=old[0].message_date), 10) == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM search_sends(ARRAY['sending_searchtext_p19990101'], 0, 1, '{}', '', '', '', 1)"
        )
        assert cursor.fetchone() == (0,), "a day that retention has just dropped is passed over"


def test_recipients_that_lie_among_those_of_another_send_do_not_upset_the_order(scene: Scene, monkeypatch: Any) -> None:
    """Two messages whose ids were drawn in the same millisecond: pages by before_id leave none out."""
    monkeypatch.setattr(module, "CHECKED", 1)
    first, second, third = (scene.send(f"{name}@one.example").send_id for name in ("ann", "bob", "carol"))
    for send_id, moved in ((first, third + 100), (second, third + 50)):
        Recipient.objects.filter(send_id=send_id).update(id=moved)
    wanted, paged = SendFilter(status="queued"), []
    while page := find_sends(scene.project.pk, wanted, 1, paged[-1] if paged else None):
        paged += [send.pk for send in page]
    assert paged == [third, second, first]


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("ann", "%ann%"),
        ("an", "an%"),
        ("a_b%", r"%a\_b\%%"),
        ("---", "---%"),
        ("a@@", "a@@%"),
        ("@ex", "%@ex%"),
        ("\\", r"\\%"),
    ],
)
def test_what_the_index_cannot_know_is_looked_for_at_the_beginning(text: str, like: str) -> None:
    assert pattern(text) == like


def test_a_tag_is_found_by_its_index_among_many_however_common(scene: Scene) -> None:
    """Neither the tags of others nor other projects' are read for a page of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO sending_sendtag (project_id, tag, send_id)
               SELECT %s + g %% 5, 'tag' || g %% 7, id_floor(clock_timestamp()) - g FROM generate_series(1, 50000) g""",
            [scene.project.pk],
        )
        cursor.execute("ANALYZE sending_sendtag")
    scene.send("ann@one.example", tags=("tag3",))
    looked = plans(lambda: find_sends(scene.project.pk, SendFilter(tag="tag3"), 10))
    of_tag = [list(nodes(plan)) for sql, plan in looked if "FROM sending_sendtag" in sql]
    assert of_tag
    today = partition_name("sending_sendtag", timezone.now())
    for used in of_tag:
        assert not [node for node in used if node["Node Type"] in ("Seq Scan", "Gather")], used
        [bounds] = [node["Index Cond"] for node in used if node.get("Index Name") == f"{today}_pkey"]
        assert all(column in bounds for column in ("project_id", "tag", "send_id")), bounds
