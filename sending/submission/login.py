"""Signing in: an API key at AUTH, and once more for each mail."""

from dataclasses import dataclass, field

from projects.access import Caller
from projects.api_keys import Known
from projects.authentication import caller_by_key
from projects.life import check_may_send
from projects.limits import limits_of
from projects.permissions import check_scope
from projects.scopes import Scope
from relay_project.net.smtp_server.model import Peer, SmtpReply
from relay_project.web.errors import ApiError
from sending.submission.replies import login_refused


@dataclass(frozen=True, slots=True)
class Login:
    """Who signed in. The key's secret is kept to look it up again, and is shown nowhere."""

    secret: str = field(repr=False)
    project_id: int
    key_id: int
    most_octets: int


def sign_in(peer: Peer, secret: str) -> Login | SmtpReply:
    """Whose password that is, or why it opens nothing."""
    try:
        caller = caller_of(peer, secret)
    except ApiError as error:
        return login_refused(error)
    assert caller.project is not None and caller.api_key is not None  # noqa: PT018 — a key has both
    return Login(secret, caller.project.pk, caller.api_key.pk, limits_of(caller.project).message_bytes)


def caller_of(peer: Peer, secret: str, known: Known | None = None) -> Caller:
    """Whose key that is; raises ApiError when it may not send from there, as the API does."""
    caller = caller_by_key(secret, peer.address, known)
    check_scope(caller, Scope.SENDS_SEND)
    assert caller.project is not None  # a key has one
    check_may_send(caller.project)
    return caller
