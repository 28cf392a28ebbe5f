"""webhooks.live.hub, connection and reading: each stream gets each event once, whatever happens in between."""

import asyncio
import threading
from typing import Any

import pytest
from django.db import connection

from projects.events import NewEvent, emit, sequence_outbox
from relay_project.web.errors import ApiError
from tests.webhooks.live.test_asked import asked
from webhooks.live.connection import MAX_QUEUED, MAX_STALL_SECONDS, MAX_UNSENT, Connection
from webhooks.live.frames import Item
from webhooks.live.hub import Hub
from webhooks.live.reading import Batch, feed_end, read_batch, read_page, read_start
from webhooks.live.tickets import Ticket


class StillReader:
    def wake(self) -> None: ...

    def is_alive(self) -> bool:
        return True


def hub() -> Hub:
    made = Hub()
    made._reader = StillReader()  # type: ignore[assignment]
    return made


def stream(made: Hub, project_id: int = 1, after: int = 0, query: str = "", **more: Any) -> Connection:
    one = Connection(asked(query), Ticket(project_id, None), frozenset({"sends.read", "domains.read"}), after=after)
    made.add(one)
    return one


def item(position: int, project_id: int = 1, kind: str = "send.queued", send_id: int | None = None) -> Item:
    return Item(position, position + 1000, project_id, kind, send_id, b"", "")


def batch(begin: int, *items: Item, projects: tuple[int, ...] = (1, 2)) -> Batch:
    end = max((one.position for one in items), default=begin)
    return Batch(begin, end, frozenset(projects), list(items))


def queued(one: Connection) -> list[int]:
    return [each.position for each in one.queue]


def test_a_joined_stream_gets_its_projects_events_once_and_in_order():
    made = hub()
    made.deliver(batch(10))
    one, other = stream(made, after=12), stream(made, 2, after=10)
    assert made.join(one)
    assert made.join(other)
    made.deliver(batch(10, item(11), item(12), item(13), item(14, 2)))
    made.deliver(batch(14, item(15)))
    assert (queued(one), queued(other)) == ([13, 15], [14])


def test_a_stream_reads_for_itself_until_nothing_is_between_it_and_the_next_batch():
    made = hub()
    behind = stream(made, after=5)
    assert not made.join(behind), "nobody has read yet"
    made.deliver(batch(10))
    assert not made.join(behind)
    made.deliver(batch(10, item(11)))
    assert queued(behind) == [], "it would get 11 without what stands before"
    behind.after = 11
    assert made.join(behind)
    made.rest()
    made.deliver(batch(20))
    made.deliver(batch(20, item(21)))
    assert (behind.is_joined, queued(behind)) == (False, []), "the batch begins after what it has"


def test_a_stream_whose_project_was_not_asked_for_when_the_batch_was_read_reads_for_itself():
    made = hub()
    made.deliver(batch(10))
    one = stream(made, 3, after=10)
    assert made.join(one)
    made.deliver(batch(10, item(11)))
    assert (one.is_joined, one.after, queued(one)) == (False, 10, [])


def test_filters_and_rights_leave_out_the_rest():
    made = hub()
    made.deliver(batch(0))
    some = stream(made, query="kinds=send.recipient.bounced")
    of_one = stream(made, query="send_id=7")
    for one in (some, of_one):
        assert made.join(one)
    events = (
        item(1, kind="send.recipient.bounced", send_id=7), item(2, kind="send.recipient.bounced", send_id=8),
        item(3, kind="send.queued", send_id=7), item(4, kind="suppression.created"),
    )  # fmt: skip
    made.deliver(batch(0, *events))
    assert (queued(some), queued(of_one)) == ([1, 2], [1, 3])
    some.allow(frozenset({"domains.read"}))
    assert some.ending is not None
    assert some.ending.code == 4403
    assert of_one.ending is None


def test_a_slow_client_is_cut_off_and_holds_no_memory():
    made = hub()
    made.deliver(batch(0))
    one = stream(made)
    assert made.join(one)
    made.deliver(batch(0, *(item(number) for number in range(1, MAX_QUEUED + 2))))
    assert (queued(one), one.ending and one.ending.code) == ([], 4408)
    stuck, flooding = stream(made), stream(made)
    stuck.writing_since = 100.0
    assert not stuck.is_stalled(100.0 + MAX_STALL_SECONDS)
    assert stuck.is_stalled(101.0 + MAX_STALL_SECONDS)
    flooding.wire = type(
        "Wire", (), {"get_write_buffer_size": lambda self: MAX_UNSENT + 1, "abort": lambda self: None}
    )()
    assert flooding.is_stalled(0)


async def test_an_error_of_ours_ends_no_care(monkeypatch: pytest.MonkeyPatch):
    """Else a revoked key would read on, and a slow client hold on, until the process ends."""
    asked_again = asyncio.Event()

    async def failing(self: Hub) -> None:
        if not calls:
            calls.append(1)
            raise ValueError("a ticket that cannot be read")
        asked_again.set()

    calls: list[int] = []
    monkeypatch.setattr(Hub, "_recheck", failing)
    monkeypatch.setattr("webhooks.live.hub.SWEEP_SECONDS", 0.001)
    monkeypatch.setattr("webhooks.live.hub.RECHECK_SECONDS", 0.0)
    made = hub()
    made._thread = threading.current_thread()
    sweeper = asyncio.create_task(made._sweep())
    await asyncio.wait_for(asked_again.wait(), 5)
    sweeper.cancel()


def test_limits_hold_for_the_process_a_project_and_an_address(settings):
    settings.LIVE_CONNECTIONS, settings.LIVE_PROJECT_CONNECTIONS, settings.LIVE_ADDRESS_CONNECTIONS = 4, 2, 3
    made = hub()
    first, second = stream(made), stream(made)
    for full, project_id, words in ((first, 1, "this project"), (None, 2, "your address")):
        if full is None:
            stream(made, 2)
        with pytest.raises(ApiError, match=words) as refused:
            stream(made, project_id)
        assert (refused.value.status, dict(refused.value.headers)) == (503, {"Retry-After": "5"})
    made.remove(second)
    stream(made)
    made.drain()
    assert first.ending is not None
    assert first.ending.code == 1012
    with pytest.raises(ApiError, match="restarts"):
        made.check_room()
    for one in list(made.connections):
        made.remove(one)
    assert (made._of_project, made._of_network, made._projects) == ({}, {}, frozenset())


def happen(project_id: int, *numbers: int) -> list[int]:
    ids = emit(*(NewEvent(project_id, "domain.created", "domain", number, {}) for number in numbers))
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
    return ids


@pytest.mark.django_db
def test_an_event_whose_body_cannot_be_made_stops_nobody(monkeypatch: pytest.MonkeyPatch):
    happened = happen(1, 1, 2)

    def broken(event: Any, known: Any) -> Any:
        raise ValueError("a body that cannot be made")

    monkeypatch.setattr("webhooks.payload._payload", broken)
    items = read_batch(0, frozenset({1})).items
    assert [one.event_id for one in items] == happened
    assert b'"event":"domain.created","payload":{}' in items[0].sse


@pytest.mark.django_db
def test_a_stream_begins_after_an_event_or_now_and_says_what_may_be_gone():
    assert read_start(1, None).event_id == 0
    first, second = happen(1, 1, 2)
    (foreign,) = happen(2, 3)
    end = feed_end()
    assert read_start(1, None) == read_start(1, None).__class__(end, second, True)
    assert read_start(1, first).position == end - 2
    assert read_start(1, 0).position == 0
    gone = read_start(1, first - 1)
    assert (gone.position, gone.is_complete) == (end - 3, False), "with the first that is kept"
    future, others = read_start(1, 2**53 - 1), read_start(1, foreign)
    assert (future.position, future.event_id, future.is_complete) == (end, second, False), "to resume from"
    assert (others.position, others.is_complete) == (end, False), "as if there were no such event"
    page = read_page(1, end - 2, lambda event: True)
    assert ([one.event_id for one in page.items], page.end, page.is_full) == ([second], end, False)
    assert [one.event_id for one in read_page(1, 0, lambda event: event.subject_id == 1).items] == [first]
    whole = read_batch(0, frozenset({1}))
    assert ([one.event_id for one in whole.items], whole.end) == ([first, second], end)
    assert whole.items[0].sse.startswith(b"id: %d\nevent: domain.created\ndata: {" % first)
