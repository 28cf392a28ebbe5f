"""Short-lived tokens for pages: a browser's WebSocket and EventSource send no headers, so the query carries one.

A token opens live streams of one project for one person or key and nothing else, for a few minutes; what they may see is
asked anew when it is used. It is encrypted, so that what it is bound to (a session) does not stand in an address.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from projects.access import Caller
from relay_project.db.keyring import ring

TOKEN_SECONDS = 300
MAX_TOKEN = 3000  # characters; ours have some hundreds
PURPOSE = "live stream tokens"


class BadToken(ValueError):
    """A token that is not ours, or whose time is over."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token holds."""

    project_id: int
    scopes: frozenset[str]  # at most these
    user_id: int | None
    api_key_id: int | None
    session_key: str | None
    by_token: bool


def make_token(caller: Caller, session_key: str | None, now: datetime) -> tuple[str, datetime]:
    """A token of the caller, inside their project, and when it ends."""
    assert caller.project is not None
    held = {
        "p": caller.project.pk,
        "c": sorted(caller.scopes),
        "u": caller.user.pk if caller.user else None,
        "k": caller.api_key.pk if caller.api_key else None,
        "s": session_key,
        "t": caller.by_token,
    }
    token = _fernet().encrypt_at_time(orjson.dumps(held), int(now.timestamp()))
    return token.decode().rstrip("="), now + timedelta(seconds=TOKEN_SECONDS)


def read_token(token: str, now: datetime) -> Grant:
    """What a token holds; raises BadToken."""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise BadToken
    padded = token + "=" * (-len(token) % 4)
    try:
        held = orjson.loads(_fernet().decrypt_at_time(padded.encode(), TOKEN_SECONDS, int(now.timestamp())))
    except (InvalidToken, ValueError):
        raise BadToken from None
    return Grant(held["p"], frozenset(held["c"]), held["u"], held["k"], held["s"], held["t"])


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in ring(PURPOSE)])
