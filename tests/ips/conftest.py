"""A host with two default queues."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from ips.models import Server
from ips.register import register_host
from ips.senders import Registration
from queues.setup import ensure_queues


@pytest.fixture
def host(db: None, settings: Any) -> Server:
    """Four addresses, one of them for each default queue."""
    return make_host(settings)


@pytest.fixture
def open_host(transactional_db: None, settings: Any) -> Server:
    """The same with commits, for tests with several connections."""
    return make_host(settings)


def make_host(settings: Any) -> Server:
    settings.SERVER_NAME = "one.test"
    settings.SOURCE_IPS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]
    ensure_queues()
    return register(timezone.now())


def register(now: datetime) -> Server:
    """Register a host that can send from whatever SOURCE_IPS names; documentation addresses are on no machine."""
    return register_host(now, is_here=lambda address: True)


@pytest.fixture
def registered() -> Iterator[list[Registration]]:
    """Registrations to be stopped at the end, whatever happened."""
    made: list[Registration] = []
    yield made
    for registration in made:
        registration._drop_lock_connection()
