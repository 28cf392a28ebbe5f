"""Each source IP is served by exactly one living process."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from ips.models import Sender, Server, SourceIp
from ips.senders import Registration
from queues.models import Queue
from relay_project.db import locks

Registered = list[Registration]


@pytest.fixture(autouse=True)
def all_ips_carry_mail(request: pytest.FixtureRequest) -> None:
    """Every address has a queue: two for each."""
    if {"host", "open_host"} & set(request.fixturenames):
        request.getfixturevalue("host" if "host" in request.fixturenames else "open_host")
        names = ("transactional", "distributional") * 2
        for ip, name in zip(SourceIp.objects.order_by("id"), names, strict=True):
            SourceIp.objects.filter(pk=ip.pk).update(queue=Queue.objects.get(name=name))


def start(server: Server, registered: Registered) -> Registration:
    registration = Registration(server.pk)
    registered.append(registration)
    registration.start()
    return registration


def hand_over(registration: Registration) -> None:
    """One beat of a sender that has no mail in flight."""
    registration.beat()
    for ip_id in registration.refresh_ips():
        registration.release(ip_id)


def served() -> dict[int, int | None]:
    return dict(SourceIp.objects.order_by("id").values_list("id", "served_by_id"))


def held_locks() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            [locks.SOURCE_IP],
        )
        return [row[0] for row in cursor.fetchall()]


def cut(registration: Registration) -> None:
    """The lock connection dies, as a restart of the database or an impatient firewall would have it."""
    assert registration._lock_connection is not None
    pid = registration._lock_connection.info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_one_sender_serves_all_and_a_second_one_gets_its_half(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    hand_over(first)
    assert len(first.ips) == 4
    assert set(served().values()) == {first.sender_id}
    second = start(host, registered)
    hand_over(second)
    assert second.ips == {}, "nothing is taken from one that lives"
    hand_over(first)
    hand_over(second)
    assert (len(first.ips), len(second.ips)) == (2, 2)
    assert not set(first.ips) & set(second.ips)
    hand_over(first)
    hand_over(second)
    assert (len(first.ips), len(second.ips)) == (2, 2), "and it stays so"


def test_three_senders_share_four_ips_and_all_are_served(host: Server, registered: Registered) -> None:
    """⌈4 / 3⌉ = 2: two serve two each, and one stands by."""
    senders = [start(host, registered) for _ in range(3)]
    for _ in range(3):
        for sender in senders:
            hand_over(sender)
    assert sorted(len(sender.ips) for sender in senders) == [0, 2, 2]
    assert None not in served().values()


def test_an_ip_keeps_its_lock_until_it_is_released(host: Server, registered: Registered) -> None:
    """While its last conversations end nobody else may serve it."""
    first = start(host, registered)
    first.refresh_ips()
    second = start(host, registered)
    surplus = first.refresh_ips()
    assert len(surplus) == 2
    second.refresh_ips()
    assert second.ips == {}
    for ip_id in surplus:
        first.release(ip_id)
    second.refresh_ips()
    assert set(second.ips) == surplus


def test_an_ip_that_is_taken_back_while_it_is_handed_over_is_served_and_later_let_go(
    host: Server, registered: Registered
) -> None:
    """Session locks stack: taken twice and released once, an IP would be nobody's for as long as its sender lives."""
    first = start(host, registered)
    first.refresh_ips()
    second = start(host, registered)
    surplus = first.refresh_ips()
    second.stop()
    assert first.refresh_ips() == set(), "the other left: all four are ours again"
    for ip_id in surplus:
        first.release(ip_id)
    assert set(served().values()) == {first.sender_id}, "a release that comes too late does nothing"
    third = start(host, registered)
    hand_over(first)
    hand_over(third)
    assert (len(first.ips), len(third.ips)) == (2, 2)


def test_a_release_that_failed_is_asked_for_again(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    first.refresh_ips()
    start(host, registered)
    surplus = first.refresh_ips()
    assert first.refresh_ips() == surplus
    for ip_id in surplus:
        first.release(ip_id)
    assert first.refresh_ips() == set()


def test_stop_lets_go_of_everything_at_once(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    first.refresh_ips()
    first.stop()
    assert set(served().values()) == {None}
    assert not Sender.objects.exists()
    second = start(host, registered)
    second.refresh_ips()
    assert len(second.ips) == 4


def test_a_cut_lock_connection_is_noticed_and_its_locks_are_taken_again(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    first.refresh_ips()
    start(host, registered)
    surplus = first.refresh_ips()
    assert first.holds_lock
    cut(first)
    assert not first.holds_lock
    assert first.retake_locks()
    assert first.holds_lock
    assert set(held_locks()) == set(first.ips) | surplus, "also of those that are still being handed back"


def test_an_ip_whose_lock_somebody_else_took_meanwhile_is_given_up(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    first.refresh_ips()
    cut(first)
    thief = start(host, registered)
    taken = min(first.ips)
    assert thief._try(locks.SOURCE_IP, taken)
    assert first.retake_locks()
    assert set(first.ips) == set(served()) - {taken}


def test_a_sender_whose_own_lock_is_taken_does_not_go_on(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    cut(first)
    thief = start(host, registered)
    assert thief._try(locks.SENDER, first.sender_id)
    assert not first.retake_locks()


def test_many_senders_at_once_never_serve_one_ip_twice(open_host: Server, registered: Registered) -> None:
    rounds, serving = 6, threading.Lock()
    owners: dict[int, int] = {}
    clashes: list[int] = []

    def live(_: int) -> None:
        registration = Registration(open_host.pk)
        with serving:
            registered.append(registration)
        registration.start()
        for _ in range(rounds):
            registration.beat()
            leaving = registration.refresh_ips()
            for ip_id in registration.ips:
                with serving:
                    if owners.setdefault(ip_id, registration.sender_id) != registration.sender_id:
                        clashes.append(ip_id)
            for ip_id in leaving:
                with serving:
                    owners.pop(ip_id, None)
                registration.release(ip_id)
        with serving:
            for ip_id in registration.ips:
                owners.pop(ip_id, None)
        registration.stop()
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(8)))
    assert clashes == []
    assert set(served().values()) == {None}


def test_ips_of_another_host_are_left_alone(host: Server, registered: Registered, settings: Any) -> None:
    elsewhere = Server.objects.create(hostname="two.test")
    stranger = start(elsewhere, registered)
    assert stranger.refresh_ips() == set()
    assert stranger.ips == {}


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"gone_at": timezone.now()}, {"queue": None}])
def test_an_ip_that_may_not_be_used_any_more_is_handed_back(
    host: Server, registered: Registered, change: dict[str, Any]
) -> None:
    first = start(host, registered)
    first.refresh_ips()
    ip_id = min(first.ips)
    SourceIp.objects.filter(pk=ip_id).update(**change)
    assert first.refresh_ips() == {ip_id}
    assert ip_id not in first.ips


def test_a_default_queue_without_an_ip_borrows_those_of_the_other(host: Server, registered: Registered) -> None:
    transactional, distributional = (Queue.objects.get(name=n) for n in ("transactional", "distributional"))
    SourceIp.objects.update(queue=transactional)
    first = start(host, registered)
    first.refresh_ips()
    assert {ip.queue_ids for ip in first.ips.values()} == {(transactional.pk, distributional.pk)}


def test_an_ip_set_apart_in_a_queue_of_its_own_is_not_lent(host: Server, registered: Registered) -> None:
    """A dedicated address must not carry what anybody else sends."""
    apart = Queue.objects.create(name="apart")
    SourceIp.objects.filter(queue__name="distributional").update(queue=apart)
    first = start(host, registered)
    first.refresh_ips()
    assert (apart.pk,) in {ip.queue_ids for ip in first.ips.values()}
    assert not [ip for ip in first.ips.values() if apart.pk in ip.queue_ids and len(ip.queue_ids) > 1]


def test_an_unreachable_lock_connection_is_the_callers_to_handle(host: Server, settings: Any) -> None:
    """Behind a pooler the direct way may be down while the ordinary one works."""
    settings.DATABASE_DIRECT_URL = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"
    registration = Registration(host.pk)
    with pytest.raises(psycopg.OperationalError):
        registration.start()
    assert not registration.holds_lock


def test_a_sender_whose_servers_name_another_machine_took_serves_nothing(host: Server, registered: Registered) -> None:
    first = start(host, registered)
    first.refresh_ips()
    held = set(first.ips)
    Server.objects.filter(pk=host.pk).update(identity="another boot net:[2]")
    assert first.refresh_ips() == held
    assert first.ips == {}


def test_each_ip_knows_one_of_the_other_family_that_carries_the_same_queue(
    host: Server, registered: Registered
) -> None:
    SourceIp.objects.filter(address="192.0.2.3").update(address="2001:db8::3")
    first = start(host, registered)
    first.refresh_ips()
    first.refresh_ips()  # the first time nobody served them yet
    found = {ip.address: first.ips[ip.other_family].address for ip in first.ips.values() if ip.other_family}
    assert found == {"192.0.2.1": "2001:db8::3", "2001:db8::3": "192.0.2.1"}
