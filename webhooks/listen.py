"""Hearing of notifications, on a connection of its own: a loop that is woken looks at once and not within a second."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import structlog
from psycopg import sql

from relay_project.db.session import direct_parameters
from relay_project.mail.text import clean
from webhooks.loop import Loop

WAIT_SECONDS = 1.0  # between looks whether to stop
RETRY_SECONDS = 5.0  # without a connection the loop looks by itself

log = structlog.get_logger(__name__)


def waking(loop: Loop, channel: str) -> AbstractContextManager[None]:
    """Wake the loop at each notification, for the block."""
    return hearing(channel, lambda _: loop.wake())


@contextmanager
def hearing(channel: str, hear: Callable[[str], None]) -> Iterator[None]:
    """Call `hear` with what each notification says, for the block; with nothing when some may have been missed."""
    stopping = threading.Event()
    thread = threading.Thread(target=_listen, args=(channel, hear, stopping), name=f"listen-{channel}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _listen(channel: str, hear: Callable[[str], None], stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            with psycopg.connect(**direct_parameters("relay listener"), autocommit=True) as connection:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                hear("")  # what came before is heard of by nobody
                while not stopping.is_set():
                    for notification in connection.notifies(timeout=WAIT_SECONDS, stop_after=1):
                        hear(notification.payload)
        except psycopg.Error as error:
            log.info("listen.lost", channel=channel, error=clean(str(error), 300).strip())
            stopping.wait(RETRY_SECONDS)
