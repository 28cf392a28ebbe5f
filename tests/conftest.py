"""Fixtures of the whole suite."""

import pytest

from tests import database


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
