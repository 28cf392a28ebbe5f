"""The scene of the sending floor."""

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.db import connection

from projects.models import Project
from queues.models import Queue
from tests.sending.scene import Scene, add_domain, make_scene


@pytest.fixture
def scene(db: None) -> Scene:
    """A project on a queue, served by a living sender, in the test's transaction."""
    _make_instance()
    return make_scene()


@pytest.fixture
def open_scene(transactional_db: None) -> Scene:
    """The same with commits, for tests with several connections."""
    _make_instance()
    return make_scene()


def _make_instance() -> None:
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    add_domain(system, "relay.test")
    for name in ("transactional", "distributional"):
        Queue.objects.get_or_create(name=name, defaults={"is_default": True})


@pytest.fixture
def database_started(db: None) -> Iterator[Callable[[datetime], None]]:
    """Set when the database says that it started: a function of ours in front of PostgreSQL's own."""
    with connection.cursor() as cursor:

        def pretend(moment: datetime) -> None:
            cursor.execute(
                "CREATE OR REPLACE FUNCTION pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql AS "
                f"$$ SELECT '{moment.isoformat()}'::timestamptz $$"
            )
            cursor.execute("SET search_path = public, pg_catalog")

        yield pretend
        cursor.execute("SET search_path = public")
        cursor.execute("DROP FUNCTION IF EXISTS public.pg_postmaster_start_time()")
