"""What a host says of itself, and that it never forgets an address."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from ips.models import Server, SourceIp
from ips.register import HostAddress, read_source_ips, register_host
from queues.models import Queue
from queues.setup import ensure_queues

pytestmark = pytest.mark.django_db


def addresses() -> list[str]:
    return list(SourceIp.objects.filter(gone_at=None).order_by("id").values_list("address", flat=True))


def queue_names() -> list[str | None]:
    return [ip.queue.name if ip.queue else None for ip in SourceIp.objects.select_related("queue").order_by("id")]


def test_registering_again_changes_nothing_but_the_ping(host: Server) -> None:
    before = list(SourceIp.objects.order_by("id").values())
    later = timezone.now() + timedelta(minutes=1)
    assert register_host(later) == host
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
    register_host(now)
    ip.refresh_from_db()
    assert ip.gone_at == now
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]
    register_host(now + timedelta(hours=1))
    back = SourceIp.objects.get(address="192.0.2.2")
    assert (back.pk, back.helo_name, back.gone_at, back.queue_id) == (ip.pk, name, None, ip.queue_id)
    assert name == f"smtp{ip.pk}.relay.test"


def test_the_time_an_address_went_is_the_first_time_it_was_missed(host: Server, settings: Any) -> None:
    settings.SOURCE_IPS = ["192.0.2.1"]
    first = timezone.now()
    register_host(first)
    register_host(first + timedelta(hours=1))
    assert set(SourceIp.objects.exclude(gone_at=None).values_list("gone_at", flat=True)) == {first}


def test_an_address_that_moves_to_another_host_stays_the_same_row(host: Server, settings: Any) -> None:
    ip = SourceIp.objects.get(address="192.0.2.2")
    settings.SERVER_NAME, settings.SOURCE_IPS = "two.test", ["192.0.2.2"]
    other = register_host(timezone.now())
    ip.refresh_from_db()
    assert (ip.server, ip.gone_at) == (other, None)
    assert host != other
    assert SourceIp.objects.filter(server=host, gone_at=None).count() == 3


def test_the_default_queues_get_the_first_free_addresses_transactional_first(host: Server) -> None:
    assert queue_names() == ["transactional", "distributional", None, None]


def test_one_address_goes_to_transactional_mail_and_a_second_one_later_to_the_other(db: None, settings: Any) -> None:
    ensure_queues()
    settings.SOURCE_IPS = ["192.0.2.1"]
    register_host(timezone.now())
    assert queue_names() == ["transactional"]
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.2"]
    register_host(timezone.now())
    assert queue_names() == ["transactional", "distributional"]


def test_a_default_queue_whose_address_is_gone_or_disabled_gets_another(host: Server, settings: Any) -> None:
    SourceIp.objects.filter(address="192.0.2.2").update(is_enabled=False)
    settings.SOURCE_IPS = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
    register_host(timezone.now())
    assert queue_names() == ["transactional", "distributional", "transactional", "distributional"]


def test_addresses_behind_nat_are_bound_locally_and_known_publicly(db: None, settings: Any) -> None:
    settings.SOURCE_IPS = ["192.0.2.1=10.0.0.5", "2001:DB8::0001", "192.0.2.2"]
    register_host(timezone.now())
    ips = {ip.address: ip.local_address for ip in SourceIp.objects.all()}
    assert ips == {"192.0.2.1": "10.0.0.5", "2001:db8::1": "2001:db8::1", "192.0.2.2": "192.0.2.2"}
    settings.SOURCE_IPS = ["192.0.2.1", "2001:db8::1", "192.0.2.2=10.0.0.6"]
    register_host(timezone.now())
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
    register_host(timezone.now())
    assert queue_names() == ["transactional", "distributional", "apart", None]


def test_only_the_senders_say_which_addresses_their_host_has() -> None:
    """Another process, in a container of its own but with the same settings, would take the addresses over."""
    commands = Path(settings.BASE_DIR).glob("*/management/commands/run_*.py")
    assert {path.name for path in commands if "register_host" in path.read_text()} == {"run_senders.py"}
