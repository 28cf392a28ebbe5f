"""projects.setup, queues.setup and queues.choose: the first start, any number of times."""

import pytest

from projects.dkim_keys import current_key, dkim_host, dkim_txt_value, signer_of
from projects.models import Domain, DomainStatus, Project, SendType
from projects.setup import ensure_instance, instance_domain
from queues.choose import queue_for
from queues.models import Queue
from queues.setup import ensure_queues
from relay_project.mail.dkim import txt_value

pytestmark = pytest.mark.django_db


def test_the_first_start_makes_the_system_project_and_the_instance_domain(settings):
    settings.INSTANCE_DOMAIN = "relay.example.test"
    instance = ensure_instance()
    assert (instance.project.name, instance.project.is_system) == ("System", True)
    assert (instance.domain.domain, instance.domain.status) == ("relay.example.test", DomainStatus.ACTIVE)
    key = current_key(instance.domain)
    assert dkim_host(key) == "default._domainkey.relay.example.test"
    assert signer_of(key).key.private.key_size == 2048
    assert dkim_txt_value(key) == txt_value(key.private_key)
    assert instance_domain() == instance.domain


def test_a_second_start_changes_nothing(settings):
    first = ensure_instance()
    key = current_key(first.domain)
    assert ensure_instance() == first
    assert current_key(first.domain).pk == key.pk
    assert Project.objects.filter(is_system=True).count() == 1


def test_another_instance_domain_keeps_the_old_one(settings):
    old = ensure_instance()
    settings.INSTANCE_DOMAIN = "moved.example.test"
    new = ensure_instance()
    assert new.project == old.project
    assert set(Domain.objects.values_list("domain", flat=True)) == {old.domain.domain, "moved.example.test"}


def test_a_project_waits_in_the_queue_of_its_send_type():
    ensure_queues()
    assert [queue.name for queue in ensure_queues()] == ["transactional", "distributional"]
    assert Queue.objects.filter(is_default=True).count() == 2
    for send_type in SendType:
        assert queue_for(Project(name="x", send_type=send_type)).name == send_type
