"""The cast, as on the projects' floor."""

from tests.projects.conftest import alice, api, bob, charlie, foreign, foreign_api, keyed, project, sam  # noqa: F401
