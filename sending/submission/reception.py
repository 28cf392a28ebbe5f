"""The reception of 587 and 465: an API key at AUTH, an envelope, and accept().

The key is looked up once more for each mail, so one that is revoked sends nothing from then on, also on a connection that
stays open. All of a mail's database work is one visit to a thread; accept() writes those that come at once together.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Barrier
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from projects.access import Caller
from projects.authentication import caller_by_key
from projects.life import check_may_send
from projects.limits import limits_of
from projects.permissions import check_scope
from projects.scopes import Scope
from projects.throttle import use_sends
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.text import clean
from relay_project.net.smtp_server.model import Mail, Peer, SmtpReply
from relay_project.web.errors import ApiError
from sending.accept.accept import accept
from sending.accept.request import Refused
from sending.submission.message import read_mail
from sending.submission.replies import LATER, SIGN_IN, login_refused, refused, taken

MAX_SECRET = 4096  # characters; a key has 32
NO_ADDRESS = SmtpReply(553, "5.1.3", "This is not an e-mail address")
TOO_LARGE = SmtpReply(552, "5.3.4", "Message size exceeds what this project may send")

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Login:
    """Who signed in. The key's secret is kept to look it up again, and is shown nowhere."""

    secret: str = field(repr=False)
    project_id: int
    key_id: int
    most_octets: int


class SubmissionReception:
    """The reception of the submission services (relay_project.net.smtp_server.model.Reception)."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(settings.SUBMISSION_THREADS, "submission")

    async def login(self, peer: Peer, name: str, secret: str) -> Login | SmtpReply:
        """Any user name; the password is an API key that may send."""
        if not secret or len(secret) > MAX_SECRET:
            return SmtpReply(535, "5.7.8", "The password is an API key of the project.")
        found = await self._in_thread(lambda: _sign_in(peer, secret), LATER)
        if isinstance(found, SmtpReply):
            log.info("submission.login_refused", peer=peer.address, reply=str(found))
        return found

    async def sender(self, peer: Peer, login: object | None, address: str, size: int | None) -> SmtpReply | None:
        """Any address: ours takes its place, so that bounces come here. What counts is the From of the message."""
        if not isinstance(login, Login):
            return SIGN_IN
        return TOO_LARGE if size is not None and size > login.most_octets else None

    async def recipient(self, peer: Peer, login: object | None, mail_from: str, address: str) -> SmtpReply | None:
        """An address that mail can go to."""
        if not isinstance(login, Login):
            return SIGN_IN
        try:
            parse_mailbox(address)
        except InvalidAddress:
            return NO_ADDRESS
        return None

    async def message(self, mail: Mail) -> SmtpReply:
        """250 after the commit, with the send's id."""
        login = mail.login
        if not isinstance(login, Login):
            return SIGN_IN
        reply = await self._in_thread(lambda: _take(mail, login), LATER)
        log.info(
            "submission.mail",
            peer=mail.peer.address,
            project_id=login.project_id,
            api_key_id=login.key_id,
            recipients=len(mail.recipients),
            size_bytes=len(mail.octets),
            reply=str(reply),
        )
        return reply

    async def close(self) -> None:
        """Finish what is being accepted; after the server has stopped."""
        loop, together = asyncio.get_running_loop(), Barrier(settings.SUBMISSION_THREADS)
        await asyncio.gather(
            *(loop.run_in_executor(self._threads, _leave, together) for _ in range(settings.SUBMISSION_THREADS))
        )
        self._threads.shutdown()

    async def _in_thread(self, work: Callable[[], Result], otherwise: Result | SmtpReply) -> Result | SmtpReply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _with_database, work, otherwise)


def _with_database(work: Callable[[], Result], otherwise: Result | SmtpReply) -> Result | SmtpReply:
    """In a thread with a connection of its own, which is opened anew after trouble: the client comes again."""
    try:
        return work()
    except (DatabaseError, InterfaceError) as error:
        log.warning("submission.database_trouble", error=clean(str(error), 300).strip())
        connection.close()
        return otherwise


def _leave(together: Barrier) -> None:
    """Each thread closes its own connection, and none does it twice."""
    together.wait()
    connection.close()


def _sign_in(peer: Peer, secret: str) -> Login | SmtpReply:
    try:
        caller = _caller(peer, secret)
    except ApiError as error:
        return login_refused(error)
    assert caller.project is not None and caller.api_key is not None  # noqa: PT018 — a key has both
    return Login(secret, caller.project.pk, caller.api_key.pk, limits_of(caller.project).message_bytes)


def _caller(peer: Peer, secret: str) -> Caller:
    """Whose key that is; raises ApiError when it may not send from there, as the API does."""
    caller = caller_by_key(secret, peer.address)
    check_scope(caller, Scope.SENDS_SEND)
    assert caller.project is not None  # a key has one
    check_may_send(caller.project)
    return caller


def _take(mail: Mail, login: Login) -> SmtpReply:
    """The API's order: key, scope, project, rate, shape, rules."""
    try:
        caller = _caller(mail.peer, login.secret)
        assert caller.project is not None  # a key has one
        use_sends(None, caller)
        addresses = list(dict.fromkeys(recipient.address for recipient in mail.recipients))
        request = read_mail(mail.octets, addresses, is_test=caller.is_test)
        return taken(accept(caller.project, request, datetime.now(UTC)))
    except (ApiError, Refused) as error:
        return refused(error)
