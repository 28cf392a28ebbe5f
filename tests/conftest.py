"""Fixtures of the whole suite."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases

from tests import database

OWN_DATABASE = settings.DATABASES["default"]["NAME"]  # read before any test database is made


def pytest_configure(config: pytest.Config) -> None:
    """Start the server for all workers of a run with -n, before the first of them exists."""
    if getattr(config.option, "numprocesses", None):
        database.ensure_running()


def pytest_unconfigure() -> None:
    """Stop the server."""
    database.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Have a server running before the test database is made (pytest-django asks this fixture first)."""
    database.ensure_running()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any, django_db_keepdb: bool) -> Iterator[None]:
    """A database of the tests' own also when a run has only tests that clean up for a whole file.

    pytest-django makes one for tests that are marked, which these are not. Without it their rows would be made in the
    database that DATABASE_URL names, and be removed with whatever else is there.
    """
    if connection.settings_dict["NAME"] != OWN_DATABASE:
        yield
        return
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases={"default"}, keepdb=django_db_keepdb)
    yield
    if not django_db_keepdb:
        with django_db_blocker.unblock():
            teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """What a test with commits leaves is taken away by `database.empty`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: database.empty())
        yield


@pytest.fixture(scope="session", autouse=True)
def few_rsa_keys() -> Iterator[None]:
    """Eight keys by turns for whoever makes one, and one check for each.

    OpenSSL takes 50 ms to make a key and 40 to check it, and hundreds of tests begin with that.
    """
    made: dict[int, Iterator[rsa.RSAPrivateKey]] = {}
    make = rsa.generate_private_key

    def next_key(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
        if key_size not in made:
            made[key_size] = cycle([make(public_exponent, key_size) for _ in range(8)])
        return next(made[key_size])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
        patch.setattr(rsa, "generate_private_key", next_key)
        yield


@pytest.fixture
def old_days(transactional_db: None) -> Iterator[Callable[..., None]]:
    """Makes every table's partition of past days; whatever is there beyond the test database's goes at the end."""
    from tests import history

    with connection.cursor() as cursor:
        before = history.tables(cursor)
        yield lambda *days: history.make_days(cursor, days)
        for name in history.tables(cursor) - before:
            cursor.execute(f'DROP TABLE "{name}"')


@pytest.fixture(autouse=True)
def fresh_memory() -> None:
    """What the process remembers of the database for a moment is not the last test's."""
    from projects import guesses
    from relay_project import jobs
    from relay_project.db.lookup import forget_remembered
    from sending.inbound.routing import match

    forget_remembered()
    match.forget()
    jobs.forget_wakes()
    guesses.forget()
