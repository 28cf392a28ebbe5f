"""Long polls: a process listens on one connection and wakes whoever waits here for the mailbox that got something.

A waiting request holds one of the web process's threads, so their number is bounded; whoever comes beyond it is answered
at once. A deposit is announced only where somebody waits, since a NOTIFY makes commits queue up; the row says so, and a
receiver that wrote it a moment too late finds the item at its next look.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, TypeVar

import psycopg
import structlog
from django.conf import settings
from django.utils import timezone
from psycopg import sql

from projects.events import FEED_CHANNEL
from relay_project.db.session import direct_parameters
from relay_project.mail.text import clean
from webhooks.mailbox.deposit import CHANNEL
from webhooks.mailbox.receive import leased_for
from webhooks.models.mailbox import Mailbox

LOOK_SECONDS = 5.0  # between looks of a waiting receiver that hears nothing
LEAST_SECONDS = 0.1  # between looks, however often the feed moves
RETRY_SECONDS = 5.0
LISTEN_SECONDS = 30.0  # without anybody waiting the connection is given back

Found = TypeVar("Found")
log = structlog.get_logger(__name__)


class Bell:
    """The one of a process: waiters by mailbox, and the thread that listens while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[int, set[threading.Event]] = defaultdict(set)
        self._followers: set[threading.Event] = set()  # of the feed
        self._count = 0
        self._thread: threading.Thread | None = None

    def enter(self, mailbox: Mailbox, most: int) -> threading.Event | None:
        """A place to wait in, or None when all are taken."""
        with self._lock:
            if self._count >= most:
                return None
            self._count += 1
            waiter = threading.Event()
            self._waiters[mailbox.pk].add(waiter)
            if mailbox.events:
                self._followers.add(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="mailboxes", daemon=True)
                self._thread.start()
            return waiter

    def leave(self, mailbox: Mailbox, waiter: threading.Event) -> None:
        """Give the place back."""
        with self._lock:
            self._count -= 1
            self._followers.discard(waiter)
            self._waiters[mailbox.pk].discard(waiter)
            if not self._waiters[mailbox.pk]:
                del self._waiters[mailbox.pk]

    def _listen(self) -> None:
        """Until nobody has waited for a while; without a connection the waiters look by themselves."""
        while not self._may_end(0.0):
            try:
                with psycopg.connect(**direct_parameters("relay mailboxes"), autocommit=True) as heard:
                    for channel in (CHANNEL, FEED_CHANNEL):
                        heard.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    self._ring(None)  # what came before is heard of by nobody
                    if self._hear(heard):
                        return
            except psycopg.Error as error:
                log.info("mailboxes.listen_lost", error=clean(str(error), 300).strip())
                sleep(RETRY_SECONDS)

    def _hear(self, heard: "psycopg.Connection[Any]") -> bool:
        """Pass on what is heard; True when nobody listens any more."""
        quiet_since = monotonic()
        while True:
            for notice in heard.notifies(timeout=1.0, stop_after=1):
                self._ring(notice)
            if self._count:
                quiet_since = monotonic()
            elif self._may_end(monotonic() - quiet_since - LISTEN_SECONDS):
                return True

    def _may_end(self, overdue: float) -> bool:
        """Give the thread up, unless somebody waits or came just now."""
        with self._lock:
            if self._count or overdue < 0:
                return False
            self._thread = None
            return True

    def _ring(self, notice: psycopg.Notify | None) -> None:
        with self._lock:
            if notice is None:
                waiters = {each for several in self._waiters.values() for each in several}
            elif notice.channel == FEED_CHANNEL:
                waiters = set(self._followers)
            else:
                waiters = set(self._waiters.get(int(notice.payload), ())) if notice.payload.isdigit() else set()
        for waiter in waiters:
            waiter.set()


_bell = Bell()


def wait_for(mailbox: Mailbox, seconds: float, look: Callable[[], Found], has_some: Callable[[Found], bool]) -> Found:
    """What `look` finds, tried again whenever something came, for so long; at once where no place is free to wait in."""
    found = look()
    if has_some(found) or seconds <= 0:
        return found
    waiter = _bell.enter(mailbox, min(settings.MAILBOX_WAITERS, settings.WEB_THREADS // 2))  # the others answer
    if waiter is None:
        return found
    try:
        until = monotonic() + seconds
        Mailbox.objects.filter(pk=mailbox.pk).update(waited_until=timezone.now() + timedelta(seconds=seconds + 1))
        while True:
            waiter.clear()
            found = look()
            left = until - monotonic()
            if has_some(found) or left <= 0:
                return found
            leased = leased_for(mailbox, timezone.now())
            pause = LOOK_SECONDS if leased is None else min(leased + LEAST_SECONDS, LOOK_SECONDS)
            if waiter.wait(min(left, pause)) and mailbox.events:
                sleep(min(left, LEAST_SECONDS))
    finally:
        _bell.leave(mailbox, waiter)
