"""The PostgreSQL of a test run: one server, started when the first test wants a database, gone at the end.

Its address is known before it runs, so that settings can name it; the pure rings never start it. Workers of
pytest-xdist share their controller's: they find its DATABASE_URL in the environment.
"""

import atexit
import os
import shutil

from relay_project.db.embedded import EmbeddedPostgres, make_temporary_folder

# A test run's data are worth nothing after a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_server: EmbeddedPostgres | None = None


def announce() -> None:
    """Choose the server's folder and put its URL into the environment; nothing runs yet."""
    global _server
    folder = make_temporary_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _server = EmbeddedPostgres(folder / "data", settings=FAST)
    os.environ["DATABASE_URL"] = _server.url


def ensure_running() -> None:
    """Start the server unless somebody else's is used (DATABASE_URL was given, or the controller started it)."""
    if _server is not None:
        _server.start()


def stop() -> None:
    """Stop the server if this process started it."""
    if _server is not None:
        _server.stop()
