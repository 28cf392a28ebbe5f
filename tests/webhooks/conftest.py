"""The cast, their projects and clients, as on the projects' floor."""

from tests.projects.conftest import (  # noqa: F401
    alice,
    api,
    bob,
    charlie,
    foreign,
    foreign_api,
    keyed,
    project,
    signed_in,
)
