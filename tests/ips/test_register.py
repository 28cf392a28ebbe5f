"""What a host says of itself, and that it never forgets an address."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from ips import register as registering
from ips.health import source_addresses
from ips.models import Server, SourceIp
from ips.register import HostAddress, HostWatch, NameTaken, read_source_ips, register_host
from queues.models import Queue
from queues.setup import ensure_queues
from relay_project.net.addresses import network_identity
from tests.ips.conftest import register

pytestmark = pytest.mark.django_db


def silence(server: Server) -> None:
    """Nobody has heard of its senders for a minute."""
    Server.objects.filter(pk=server.pk).update(last_ping_at=timezone.now() - timedelta(minutes=1))


def pretend_to_be(monkeypatch: pytest.MonkeyPatch, identity: str) -> None:
    """Register as another machine would."""
    monkeypatch.setattr(registering, "network_identity", lambda: identity)


def addresses() -> list[str]:
    return list(SourceIp.objects.filter(gone_at=None).order_by("id").values_list("address", flat=True))


def queue_names() -> list[str | None]:
    return [ip.queue.name if ip.queue else None for ip in SourceIp.objects.select_related("queue").order_by("id")]


def test_registering_again_changes_nothing_but_the_ping(host: Server) -> None:
    before = list(SourceIp.objects.order_by("id").values())
    later = timezone.now() + timedelta(minutes=1)
    assert register(later) == host
    assert list(SourceIp.objects.order_by("id").values()) == before
    host.refresh_from_db()
    assert host.last_ping_at == later
    assert Server.objects.count() == 1


def test_an_address_that_is_gone_keeps_its_row_its_name_and_its_history(host: Server, settings: Any) -> None:
    """Lesson C13: the row was deleted when an interface was missing at boot, its history with it, and its name changed."""
    ip = SourceIp.objects.get(address="192.0.2.2")
    name = ip.helo_name
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.3", "192.0.2.4"]
    now = timezone.now()
    register(now)
    ip.refresh_from_db()
    assert ip.gone_at == now
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]
    register(now + timedelta(hours=1))
    back = SourceIp.objects.get(address="192.0.2.2")
    assert (back.pk, back.helo_name, back.gone_at, back.queue_id) == (ip.pk, name, None, ip.queue_id)
    assert name == f"smtp{ip.pk}.relay.test"


def test_the_time_an_address_went_is_the_first_time_it_was_missed(host: Server, settings: Any) -> None:
    settings.SOURCE_IPS = ["192.0.2.1"]
    first = timezone.now()
    register(first)
    register(first + timedelta(hours=1))
    assert set(SourceIp.objects.exclude(gone_at=None).values_list("gone_at", flat=True)) == {first}


def test_an_address_that_moves_to_another_host_stays_the_same_row(host: Server, settings: Any) -> None:
    silence(host)
    ip = SourceIp.objects.get(address="192.0.2.2")
    settings.SERVER_NAME, settings.SOURCE_IPS = "two.test", ["192.0.2.2"]
    other = register(timezone.now())
    ip.refresh_from_db()
    assert (ip.server, ip.gone_at) == (other, None)
    assert host != other
    assert SourceIp.objects.filter(server=host, gone_at=None).count() == 3


def test_the_default_queues_get_the_first_free_addresses_transactional_first(host: Server) -> None:
    assert queue_names() == ["transactional", "distributional", None, None]


def test_one_address_goes_to_transactional_mail_and_a_second_one_later_to_the_other(db: None, settings: Any) -> None:
    ensure_queues()
    settings.SOURCE_IPS = ["192.0.2.1"]
    register(timezone.now())
    assert queue_names() == ["transactional"]
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.2"]
    register(timezone.now())
    assert queue_names() == ["transactional", "distributional"]


def test_a_default_queue_whose_address_is_gone_or_disabled_gets_another(host: Server, settings: Any) -> None:
    SourceIp.objects.filter(address="192.0.2.2").update(is_enabled=False)
    settings.SOURCE_IPS = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
    register(timezone.now())
    assert queue_names() == ["transactional", "distributional", "transactional", "distributional"]


def test_addresses_behind_nat_are_bound_locally_and_known_publicly(db: None, settings: Any) -> None:
    settings.SOURCE_IPS = ["192.0.2.1=10.0.0.5", "2001:DB8::0001", "192.0.2.2"]
    register(timezone.now())
    ips = {ip.address: ip.local_address for ip in SourceIp.objects.all()}
    assert ips == {"192.0.2.1": "10.0.0.5", "2001:db8::1": "2001:db8::1", "192.0.2.2": "192.0.2.2"}
    settings.SOURCE_IPS = ["192.0.2.1", "2001:db8::1", "192.0.2.2=10.0.0.6"]
    register(timezone.now())
    ips = {ip.address: ip.local_address for ip in SourceIp.objects.all()}
    assert ips == {"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1", "192.0.2.2": "10.0.0.6"}


@pytest.mark.parametrize("entry", ["", "mail.example.com", "192.0.2.1/24", "192.0.2.1=", "=10.0.0.1", "192.0.2.1=x"])
def test_nonsense_in_source_ips_is_named(entry: str) -> None:
    if entry == "192.0.2.1=":
        assert read_source_ips([entry]) == [HostAddress("192.0.2.1")]
        return
    with pytest.raises(ImproperlyConfigured, match="SOURCE_IPS"):
        read_source_ips([entry])


def test_a_queue_of_its_own_keeps_its_addresses(host: Server) -> None:
    apart = Queue.objects.create(name="apart")
    SourceIp.objects.filter(address="192.0.2.3").update(queue=apart)
    register(timezone.now())
    assert queue_names() == ["transactional", "distributional", "apart", None]


def test_only_the_senders_say_which_addresses_their_host_has() -> None:
    """Another process, in a container of its own but with the same settings, would take the addresses over."""
    commands = Path(settings.BASE_DIR).glob("*/management/commands/run_*.py")
    assert {path.name for path in commands if re.search(r"\bregister(?:_patiently)?\(", path.read_text())} == {
        "run_senders.py"
    }


# --- two machines --------------------------------------------------------------------------------------------------


def test_an_address_that_two_living_servers_name_stays_where_it_is_and_health_says_so(
    host: Server, settings: Any
) -> None:
    ip = SourceIp.objects.get(address="192.0.2.2")
    settings.SERVER_NAME, settings.SOURCE_IPS = "two.test", ["192.0.2.2", "192.0.2.9"]
    other = register(timezone.now())
    ip.refresh_from_db()
    assert (ip.server, ip.gone_at, ip.contested_by) == (host, None, other)
    assert SourceIp.objects.get(address="192.0.2.9").server == other, "the rest is registered"
    found = source_addresses()
    assert not found.passed
    assert "192.0.2.2 is named by one.test, which has it, and by two.test" in found.detail
    later = timezone.now() - timedelta(minutes=10)
    SourceIp.objects.update(contested_at=later)
    assert source_addresses().passed, "it was put right: nobody has said so for a while"


def test_an_address_that_its_server_let_go_of_may_be_taken_at_once(host: Server, settings: Any) -> None:
    settings.SOURCE_IPS = ["192.0.2.1"]
    register(timezone.now())
    settings.SERVER_NAME, settings.SOURCE_IPS = "two.test", ["192.0.2.2"]
    other = register(timezone.now())
    assert SourceIp.objects.get(address="192.0.2.2").server == other


def test_a_machine_under_the_name_of_one_that_lives_changes_nothing(
    host: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers with one SERVER_NAME would mark each other's addresses gone, turn and turn about."""
    before = list(SourceIp.objects.order_by("id").values("address", "gone_at", "server"))
    settings.SOURCE_IPS = ["192.0.2.9"]
    pretend_to_be(monkeypatch, "another boot net:[2]")
    with pytest.raises(NameTaken, match=r"Another machine is running as one\.test"):
        register(timezone.now())
    assert list(SourceIp.objects.order_by("id").values("address", "gone_at", "server")) == before
    assert "Two machines go by the name one.test" in source_addresses().detail
    host.refresh_from_db()
    assert host.identity == network_identity()


def test_a_successor_takes_the_name_of_a_machine_that_is_silent(
    host: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(host)
    pretend_to_be(monkeypatch, "another boot net:[2]")
    assert register(timezone.now()) == host
    host.refresh_from_db()
    assert host.identity == "another boot net:[2]"


# --- while it runs -------------------------------------------------------------------------------------------------


def test_a_named_address_that_is_not_on_the_host_is_gone_until_it_is_there(db: None, settings: Any) -> None:
    """Every attempt from it would fail and cost the mail a try."""
    ensure_queues()
    settings.SERVER_NAME, settings.SOURCE_IPS = "one.test", ["127.0.0.2", "127.0.0.3"]
    register(timezone.now())
    register_host(timezone.now(), is_here=lambda address: address != "127.0.0.3")
    assert addresses() == ["127.0.0.2"]
    register_host(timezone.now())
    assert addresses() == ["127.0.0.2", "127.0.0.3"]
    settings.SOURCE_IPS = ["127.0.0.2", "192.0.2.7"]
    register_host(timezone.now())
    assert addresses() == ["127.0.0.2"], "the real host cannot bind the other"


def test_a_running_sender_sees_addresses_come_and_go(host: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registering, "LOOK_SECONDS", 0)
    there = {"192.0.2.1", "192.0.2.2"}
    watch = HostWatch(is_here=there.__contains__)
    watch.look()
    assert addresses() == ["192.0.2.1", "192.0.2.2"]
    there.add("192.0.2.3")
    watch.look()
    assert addresses() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert SourceIp.objects.count() == 4, "none was forgotten"


def test_a_look_at_what_has_not_changed_writes_nothing(
    host: Server, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(registering, "LOOK_SECONDS", 0)
    watch = HostWatch(is_here=lambda address: True)
    watch.look()
    with django_assert_num_queries(0):
        watch.look()


def test_an_address_that_staff_set_aside_is_not_given_to_a_queue_again_by_a_look(
    host: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "LOOK_SECONDS", 0)
    monkeypatch.setattr(registering, "REGISTER_SECONDS", 0)
    watch = HostWatch(is_here=lambda address: True)
    watch.look()
    SourceIp.objects.update(queue=None)
    watch.look()
    assert queue_names() == [None, None, None, None]
