"""db.lookup: one row by fixed SQL is what the ORM would have read."""

import pytest

from projects.api_keys import create_key
from projects.models import ApiKey, DkimKey, Project
from relay_project.db.lookup import Lookup

pytestmark = pytest.mark.django_db

BY_HASH = Lookup(ApiKey, "t.key_hash = %s", follow="project")


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
