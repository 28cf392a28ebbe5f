"""Guesses at keys and tokens are slowed down (lesson S6): a network that brings too many wrong ones has to wait.

Wrong ones are counted exactly over all processes, right ones cost nothing. While a network waits, only what has worked
here lately gets through, without a look into the database for anything else: one forgotten program with an old key must
not shut out its neighbours, and a guess has never worked.
"""

import time
from datetime import datetime

from relay_project.db import rates
from relay_project.db.rates import Rate
from relay_project.metrics import Counter
from relay_project.net.addresses import network_of
from relay_project.web.errors import ApiError

WRONG = Rate("wrong keys", 60, 60)
WORKED_SECONDS = (
    900.0  # how long what has worked is let through; a key that is revoked meanwhile is looked up all the same
)
MOST = 10_000  # networks, and keys, that a process remembers; beyond that it begins anew

REFUSED = Counter("relay_wrong_credentials_total", "Requests with a key or token that opens nothing.")

_waiting: dict[str, float] = {}  # network → time.monotonic() until it may guess again
_worked: dict[str, float] = {}  # hash of a key or token → time.monotonic() of its last success


def check_guess(address: str, token_hash: str) -> None:
    """Raises ApiError 429 for a network that has to wait, unless this key or token has worked lately."""
    if not _waiting:
        return
    network, clock = network_of(address), time.monotonic()
    left = _waiting.get(network, 0.0) - clock
    if left <= 0:
        _waiting.pop(network, None)
        return
    if clock - _worked.get(token_hash, -1e9) > WORKED_SECONDS:
        REFUSED.inc()
        seconds = int(left + 0.999)
        message = f"Too many requests with a wrong key. Please try again later in {seconds} seconds."
        raise ApiError(429, message, headers={"Retry-After": str(seconds)})


def note_wrong(address: str, now: datetime) -> None:
    """Count a key or token that opened nothing."""
    REFUSED.inc()
    network = network_of(address)
    use = rates.use(WRONG, network, now)
    if not use.remaining:
        _bound(_waiting)
        _waiting[network] = time.monotonic() + use.reset_seconds


def note_right(token_hash: str) -> None:
    """Remember a key or token that works."""
    if token_hash not in _worked:
        _bound(_worked)
    _worked[token_hash] = time.monotonic()


def forget() -> None:
    """Begin anew, as a new process would."""
    _waiting.clear()
    _worked.clear()


def _bound(memory: dict[str, float]) -> None:
    if len(memory) >= MOST:
        memory.clear()
