"""db.lookup: one row by fixed SQL is what the ORM would have read."""

import pytest
from django.db import connection

from projects.api_keys import create_key
from projects.models import ApiKey, DkimKey, Project
from relay_project.db import lookup
from relay_project.db.lookup import Lookup, Remembered, RequestLookup
from tests.sending.scene import elsewhere

pytestmark = pytest.mark.django_db

BY_HASH = Lookup(ApiKey, "t.key_hash = %s", follow="project")
AT_FIRST = RequestLookup(ApiKey, "key_hash", follow="project")


@pytest.fixture
def key() -> ApiKey:
    project = Project.objects.create(name="Shop", send_type="transactional")
    return create_key(project, "k", ["sends.send"], ["192.0.2.7"])[0]


def test_a_row_comes_with_what_it_follows_in_one_query(key, django_assert_num_queries):
    read = ApiKey.objects.select_related("project").get(pk=key.pk)
    with django_assert_num_queries(1):
        found = BY_HASH.first(key.key_hash)
        assert found is not None
        assert found.project.name == "Shop"
    for field in ApiKey._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(read, field.attname)
    assert found == read
    assert found.project == read.project


@pytest.mark.django_db(transaction=True)
def test_a_requests_first_look_up_stands_for_the_look_at_the_connection(key, django_assert_num_queries):
    """Lesson P7: no `SELECT 1` before it, and a connection that was lost meanwhile is no error of the request."""
    connection.settings_dict["CONN_HEALTH_CHECKS"] = True
    connection.close()
    connection.ensure_connection()
    connection.close_if_unusable_or_obsolete()  # what a request begins with
    with django_assert_num_queries(1):
        assert AT_FIRST.of_request(key.key_hash) == key
    with elsewhere() as other:
        pid = connection.connection.info.backend_pid
        assert other(lambda: _ended(pid))
    connection.close_if_unusable_or_obsolete()
    assert AT_FIRST.of_request(key.key_hash) == key
    assert AT_FIRST.of_request("0" * 64) is None


def _ended(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return cursor.fetchone()[0]


def test_a_row_that_was_found_can_be_saved(key):
    found = BY_HASH.first(key.key_hash)
    assert found is not None
    found.name = "other"
    found.save()
    assert ApiKey.objects.get().name == "other"


def test_nothing_is_none(key):
    assert BY_HASH.first("0") is None


def test_encrypted_columns_are_not_read_raw():
    with pytest.raises(TypeError, match="DkimKey"):
        Lookup(DkimKey, "t.id = %s").first(1)


def test_what_is_remembered_is_asked_for_once_a_second(monkeypatch, django_assert_num_queries):
    project = Project.objects.create(name="Shop", send_type="transactional")
    clock = [100.0]
    monkeypatch.setattr(lookup.time, "monotonic", lambda: clock[0])
    by_name = Remembered(Project, "t.name = %s")
    assert by_name.first("Shop") == project
    with django_assert_num_queries(0):
        assert by_name.first("Shop") == project
    clock[0] += lookup.REMEMBERED_SECONDS
    with django_assert_num_queries(1):
        assert by_name.first("Shop") == project


def test_what_is_not_there_and_what_is_not_to_be_kept_is_not_remembered():
    by_name = Remembered(Project, "t.name = %s", keep=lambda project: not project.is_system)
    assert by_name.first("Shop") is None
    project = Project.objects.create(name="Shop", send_type="transactional", is_system=True)
    assert by_name.first("Shop") == project, "made this moment"
    Project.objects.update(is_system=False)
    found = by_name.first("Shop")
    assert found is not None
    assert not found.is_system, "made fit this moment"


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(lookup, "MAX_REMEMBERED", 2)
    names = Remembered(Project, "t.name = %s")
    for name in "abc":
        Project.objects.create(name=name, send_type="transactional")
        names.first(name)
    assert len(names._rows) == 1
