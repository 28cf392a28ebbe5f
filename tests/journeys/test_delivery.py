"""Mail from accept() to a receiving server and back to its state, through a real sender process."""

import signal
import threading
import time

import dkim
import pytest
from django.db import connection, transaction
from django.utils import timezone

from projects.models import DkimKey, Domain, Event
from queues.models import Queue
from queues.pause import pause, resume
from relay_project.mail.dkim import txt_value
from relay_project.sandbox.smtp import CUT, SILENCE, Command
from sending.content import raw_message
from sending.models import Content, Send, Suppression, Waiting
from tests.journeys.conftest import World, eventually

pytestmark = pytest.mark.journey


def published(name: bytes, timeout: int = 5) -> bytes:
    selector, _, domain = name.decode().rstrip(".").partition("._domainkey.")
    return txt_value(DkimKey.objects.get(selector=selector, domain__domain=domain).private_key).encode()


def kinds(accepted_id: int) -> list[str]:
    return list(Event.objects.filter(subject_id=accepted_id).order_by("id").values_list("kind", flat=True))


def test_a_mail_arrives_signed_by_both_domains_and_as_raw_shows_it(world: World) -> None:
    world.start_sender()
    accepted = world.send("ann@one.example", body_html="<p>Grüße</p>")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    [mail] = world.internet.received
    assert mail.recipients == ("ann@one.example",)
    assert mail.tls, "opportunistic TLS with a certificate of another name (lesson C1)"
    assert mail.data == raw_message(Send.objects.get(pk=accepted.send_id))
    assert dkim.DKIM(mail.data).verify(idx=0, dnsfunc=published)
    assert dkim.DKIM(mail.data).verify(idx=1, dnsfunc=published)
    [attempt] = world.attempts(accepted)
    [conversation] = attempt.smtp_conversations.values()
    names = [step["name"] for step in conversation["steps"]]
    assert names == ["dial", "hello", "starttls", "hello", "mail", "rcpt", "data_close"], "BDAT needs no DATA"
    assert attempt.tls["version"] == "TLSv1.3"
    assert attempt.responded_mx_host == "mx.sandbox.test"
    assert kinds(accepted.send_id) == ["send.queued", "send.recipient.accepted"]
    assert not world.waits(accepted)
    assert world.ledger().is_good


def test_a_mail_deferred_once_is_accepted_later_from_the_same_ip(world: World) -> None:
    world.start_sender()
    accepted = world.send("greylist@two.example")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    first, second = world.attempts(accepted)
    assert (first.status, second.status) == ("deferred", "accepted")
    assert (first.try_count, second.try_count) == (1, 2)
    assert first.source_ip_id == second.source_ip_id
    assert [result.smtp_code for result in world.results(accepted)] == [451, 250]
    assert kinds(accepted.send_id) == ["send.queued", "send.recipient.deferred", "send.recipient.accepted"]
    assert len(world.internet.received) == 1
    assert world.ledger().is_good


def test_a_mail_that_bounces_is_final_and_its_address_suppressed(world: World) -> None:
    world.start_sender()
    accepted = world.send("Missing@three.example")
    eventually(lambda: world.statuses(accepted) == ["bounced"])
    [result] = world.results(accepted)
    assert (result.smtp_code, result.smtp_enhanced_code, result.is_suppressed) == (550, "5.1.1", True)
    assert result.rule
    assert Suppression.objects.get(project=world.project).email == "missing@three.example"
    again = world.send("missing@THREE.example")
    assert world.statuses(again) == ["suppressed"], "compared without case (lesson C8)"
    assert kinds(again.send_id) == ["send.recipient.suppressed"]
    assert world.ledger().is_good


def test_a_second_bounce_of_a_suppressed_address_is_no_error(world: World) -> None:
    """Lesson C7: two mails to a missing mailbox are under way at once, both bounce, one suppression."""
    sends = [world.send("missing@seven.example") for _ in range(2)]
    world.start_sender()
    eventually(lambda: all(world.statuses(send) == ["bounced"] for send in sends))
    assert Suppression.objects.filter(project=world.project).count() == 1


def test_recipients_of_one_domain_share_an_attempt_with_their_own_outcomes(world: World) -> None:
    world.start_sender()
    accepted = world.send("ann@four.example", "missing@four.example", "tempfail@four.example", "bob@five.example")
    eventually(lambda: world.statuses(accepted) == ["accepted", "bounced", "deferred", "accepted"])
    attempts = {attempt.domain: attempt for attempt in world.attempts(accepted) if attempt.try_count == 1}
    assert attempts["four.example"].status == "partial"
    assert attempts["five.example"].status == "accepted"
    assert len(world.internet.received) == 2


def test_a_deferral_without_another_try_is_failed(world: World) -> None:
    world.start_sender(RETRY_SCHEDULE="1s")
    accepted = world.send("tempfail@six.example")
    eventually(lambda: world.statuses(accepted) == ["failed"])
    assert len(world.attempts(accepted)) == 2
    assert kinds(accepted.send_id) == ["send.queued", "send.recipient.deferred", "send.recipient.failed"]
    assert world.ledger().is_good


def test_a_mail_whose_sender_is_killed_in_mid_conversation_arrives_from_a_new_one(world: World) -> None:
    """SIGKILL between DATA and the reply to the final dot: the row is freed once the sender is known to be dead."""
    reached_the_dot = threading.Event()

    def hang(command: Command) -> object:
        if command.verb == ".":
            reached_the_dot.set()
            return SILENCE
        return None

    world.internet.script(hang)
    sender = world.start_sender()
    accepted = world.send("ann@killed.example")
    assert reached_the_dot.wait(20)
    [row] = world.waits(accepted)
    assert row.attempt_id is not None
    assert row.lease_until is not None
    sender.kill()
    sender.wait(5)
    world.senders.clear()
    world.internet.script(None)
    world.start_sender()
    eventually(lambda: world.statuses(accepted) == ["accepted"], 40)
    lost, delivered = world.attempts(accepted)
    assert lost.is_lost
    assert (lost.status, delivered.status) == ("deferred", "accepted")
    assert "unknown" in lost.network_error
    assert world.ledger().is_good


def test_an_accept_held_open_before_its_commit_leaves_within_a_second_of_it(world: World) -> None:
    """The sender runs empty meanwhile; ids and due time are older than what it has already seen."""
    world.start_sender()
    first = world.send("ann@before.example")
    eventually(lambda: world.statuses(first) == ["accepted"])
    with transaction.atomic():
        held = world.send("ann@held.example")
        for number in range(3):  # others pass it, from another connection
            thread = threading.Thread(target=_send_elsewhere, args=(world, f"ann@other{number}.example"))
            thread.start()
            thread.join()
        eventually(lambda: len(world.internet.received) == 4)
        time.sleep(2.5)
    committed = time.monotonic()
    eventually(lambda: len(world.internet.received) == 5, 5)
    assert world.internet.received_at[-1] - committed < 1.0
    eventually(lambda: world.statuses(held) == ["accepted"])


def _send_elsewhere(world: World, address: str) -> None:
    world.send(address)
    connection.close()


def test_nothing_is_held_in_the_database_while_a_server_talks(world: World) -> None:
    """Lesson P2: no transaction and no row lock across the network."""
    talking = threading.Event()

    def dawdle(command: Command) -> object:
        if command.verb == ".":
            talking.set()
            return SILENCE
        return None

    world.internet.script(dawdle)
    world.start_sender()
    accepted = world.send("ann@slow.example")
    assert talking.wait(20)
    eventually(lambda: not _open_transactions())
    with transaction.atomic():
        assert Waiting.objects.select_for_update(nowait=True).filter(send_id=accepted.send_id).count() == 1


def _open_transactions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND state LIKE 'idle in transaction%' AND xact_start < clock_timestamp() - interval '0.2 seconds'"
        )
        return int(cursor.fetchone()[0])


def test_a_reply_that_is_not_text_is_stored_readable_and_tried_by_schedule_only(world: World) -> None:
    """Lesson C3: NUL and bytes that are not UTF-8 in a reply neither stop the settle nor repeat the mail."""
    world.internet.script(
        lambda command: b"550 5.1.1 no\x00 such \xff\xfe user\r\n" if command.verb == "RCPT" else None
    )
    world.start_sender()
    accepted = world.send("ann@binary.example")
    eventually(lambda: world.statuses(accepted) == ["bounced"])
    [result] = world.results(accepted)
    assert "no such" in result.smtp_message.replace("�", "").replace("  ", " ")
    assert "\x00" not in result.smtp_message
    assert len(world.attempts(accepted)) == 1


def test_every_2xx_reply_to_rcpt_is_an_acceptance(world: World) -> None:
    """Lesson C5: 251 and 252 count for DATA."""
    world.internet.script(lambda command: "251 2.1.5 will forward" if command.verb == "RCPT" else None)
    world.start_sender()
    accepted = world.send("ann@forward.example")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    [attempt] = world.attempts(accepted)
    [conversation] = attempt.smtp_conversations.values()
    assert [step["reply_code"] for step in conversation["steps"] if step["name"] == "data_close"] == [250]


def test_a_connection_cut_after_the_final_dot_waits_for_its_schedule(world: World) -> None:
    """Lesson C4: never straight to the next host; the mail may have been taken (RFC 1047)."""
    world.internet.script(lambda command: CUT if command.verb == "." else None)
    world.start_sender(RETRY_SCHEDULE="1h")
    accepted = world.send("ann@cut.example")
    eventually(lambda: world.statuses(accepted) == ["deferred"])
    [attempt] = world.attempts(accepted)
    assert attempt.network_error
    [row] = world.waits(accepted)
    assert row.due_at > timezone.now()


def test_null_mx_bounces_and_dns_trouble_defers(world: World) -> None:
    """Lessons C2 and C15."""
    world.start_sender(RETRY_SCHEDULE="1h")
    null_mx = world.send("ann@null-mx.example")
    servfail = world.send("ann@servfail.example")
    missing = world.send("ann@nxdomain.example")
    eventually(lambda: world.statuses(null_mx) == ["bounced"])
    eventually(lambda: world.statuses(servfail) == ["deferred"])
    eventually(lambda: world.statuses(missing) == ["bounced"])
    assert not Suppression.objects.exists()


def test_the_second_mx_is_tried_when_the_first_refuses_connections(world: World) -> None:
    world.start_sender()
    accepted = world.send("ann@two-hosts.example")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    [attempt] = world.attempts(accepted)
    assert len(attempt.smtp_conversations) == 2


def test_a_paused_queue_keeps_its_mail_until_it_is_resumed(world: World) -> None:
    world.start_sender()
    eventually(lambda: world.senders[0].poll() is None and _serving())
    queue = Queue.objects.get(name="transactional")
    pause(queue, reason="maintenance", actor=None, now=timezone.now())
    accepted = world.send("ann@paused.example")
    time.sleep(1.5)
    assert world.statuses(accepted) == ["queued"]
    resume(queue, actor=None, now=timezone.now())
    eventually(lambda: world.statuses(accepted) == ["accepted"])


def _serving() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM ips_sourceip WHERE served_by_id IS NOT NULL")
        return bool(cursor.fetchone()[0])


def test_sigterm_finishes_what_is_under_way_and_gives_back_the_rest(world: World) -> None:
    sends = [world.send(f"slow+{number}@sigterm.example") for number in range(30)]
    sender = world.start_sender(SITE_CONNECTIONS="5")
    eventually(lambda: any(world.statuses(send) == ["accepted"] for send in sends))
    sender.send_signal(signal.SIGTERM)
    assert sender.wait(20) == 0
    world.senders.clear()
    delivered = [send for send in sends if world.statuses(send) == ["accepted"]]
    rest = [send for send in sends if send not in delivered]
    assert rest
    assert len(delivered) == len(world.internet.received), "nothing sent twice, nothing unrecorded"
    for send in rest:
        [row] = world.waits(send)
        assert row.attempt_id is None
    assert world.ledger().is_good
    world.start_sender()
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in sends), 60)
    assert len(world.internet.received) == len(sends)


def test_a_slow_site_delays_nobody_else(world: World) -> None:
    """A tar pit holds its connections and its share of the allowance, never all of it."""
    for number in range(60):
        world.send(f"slow+{number}@tarpit.example")
    world.start_sender(SITE_CONNECTIONS="2", IN_FLIGHT_ROWS="20")
    eventually(lambda: len(world.internet.received) >= 2)
    started = time.monotonic()
    quick = world.send("ann@two-hosts.example")
    eventually(lambda: world.statuses(quick) == ["accepted"], 20)
    assert time.monotonic() - started < 10
    assert world.ledger().is_good


def test_two_servers_share_one_backlog_and_its_content(world: World) -> None:
    """Lesson C14: content is in the database, so whichever server claims a mail can read it."""
    sends = [world.send(f"ann{number}@shared.example") for number in range(40)]
    world.start_sender(SERVER_NAME="one.test", SOURCE_IPS="127.0.0.2")
    world.start_sender(SERVER_NAME="two.test", SOURCE_IPS="127.0.0.4")
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in sends))
    assert len(world.internet.received) == 40
    assert world.ledger().is_good


def test_mail_of_a_domain_that_was_removed_fails_with_that_reason(world: World) -> None:
    accepted = world.send("ann@removed.example")
    world.domain.delete()
    world.start_sender()
    eventually(lambda: world.statuses(accepted) == ["failed"])
    [result] = world.results(accepted)
    assert "removed" in result.smtp_message
    assert not world.internet.received
    assert world.ledger().is_good


def test_a_message_that_cannot_be_read_is_backed_off_alone(world: World) -> None:
    """A poison row takes none of its batch along, and ends as failed with a reason (rule of the road 5)."""
    poison = world.send("ann@poison.example")
    content = Content.objects.get(pk=Send.objects.get(pk=poison.send_id).content_id)
    content.headers = [["X-One"]]
    content.save()
    others = [world.send(f"ann{number}@healthy.example") for number in range(3)]
    world.start_sender(RETRY_SCHEDULE="1s")
    eventually(lambda: all(world.statuses(other) == ["accepted"] for other in others))
    eventually(lambda: world.statuses(poison) == ["failed"])
    assert world.attempts(poison)[0].network_error == "an error of ours; the log names it by this attempt's id"
    assert world.ledger().is_good


def test_mail_of_a_domain_that_was_suspended_waits_for_it_to_be_reinstated(world: World) -> None:
    accepted = world.send("ann@suspended.example")
    Domain.objects.filter(pk=world.domain.pk).update(status="suspended")
    world.start_sender(RETRY_SCHEDULE="1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
    eventually(lambda: world.statuses(accepted) == ["deferred"])
    assert "suspended" in world.attempts(accepted)[0].network_error
    assert not world.internet.received
    Domain.objects.filter(pk=world.domain.pk).update(status="active")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    assert world.ledger().is_good
