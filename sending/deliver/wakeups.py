"""Where a wake-up job finds the engine of its process: a hint, so a missing listener is no error."""

from collections.abc import Callable

_listeners: set[Callable[[], None]] = set()


def listen(wake: Callable[[], None]) -> None:
    """Call `wake` (quick, from the event loop) at every wake-up."""
    _listeners.add(wake)


def unlisten(wake: Callable[[], None]) -> None:
    """The opposite."""
    _listeners.discard(wake)


def wake_all() -> None:
    """What the job does."""
    for wake in list(_listeners):
        wake()
