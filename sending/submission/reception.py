"""The reception of 587 and 465: an API key at AUTH, an envelope, and accept().

The key is looked up once more for each mail, so one that is revoked sends nothing from then on, also on a connection that
stays open. Mails that are submitted at once, over whatever connections, are taken in one transaction.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from relay_project.db.rounds import Rounds, close_connection
from relay_project.db.trouble import note_trouble
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.net.smtp_server.model import Mail, Peer, SmtpReply
from sending.accept.accept import IN_FLIGHT_SECONDS
from sending.submission.login import Login, sign_in
from sending.submission.replies import IN_FLIGHT, LATER, SIGN_IN
from sending.submission.take import MAX_MAILS, MAX_OCTETS, Submission, take_together

MAX_SECRET = 4096  # characters; a key has 32
LOOK_AGAIN_SECONDS = 0.1  # for an idempotency key that another call holds
NO_ADDRESS = SmtpReply(553, "5.1.3", "This is not an e-mail address")

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class SubmissionReception:
    """The reception of the submission services (relay_project.net.smtp_server.model.Reception)."""

    def __init__(self) -> None:
        self._rounds: Rounds[Submission, SmtpReply | None] = Rounds(
            take_together,
            "submission",
            lambda one: len(one.mail.octets),
            most=MAX_MAILS,
            most_octets=MAX_OCTETS,
            threads=settings.SUBMISSION_THREADS,
        )
        self._logins = ThreadPoolExecutor(1, "submission-login")  # who signs in waits for no mail

    async def login(self, peer: Peer, name: str, secret: str) -> Login | SmtpReply:
        """Any user name; the password is an API key that may send."""
        if not secret or len(secret) > MAX_SECRET:
            return SmtpReply(535, "5.7.8", "The password is an API key of the project.")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._logins, with_database, lambda: sign_in(peer, secret))
        if isinstance(found, SmtpReply):
            log.info("submission.login_refused", peer=peer.address, reply=str(found))
        return found

    async def sender(self, peer: Peer, login: object | None, address: str, size: int | None) -> SmtpReply | None:
        """Any address: ours takes its place, so that bounces come here. What counts is the From of the message."""
        return None if isinstance(login, Login) else SIGN_IN

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
        reply = await self._take(Submission(mail, login))
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

    async def _take(self, submission: Submission) -> SmtpReply:
        """It comes again while another call holds its key, and not for long."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + IN_FLIGHT_SECONDS
        while (reply := await self._rounds.do(submission)) is None:
            if loop.time() >= give_up:
                return IN_FLIGHT
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return reply

    async def close(self) -> None:
        """Finish what is being accepted; after the server has stopped."""
        await self._rounds.close()
        await asyncio.get_running_loop().run_in_executor(self._logins, close_connection)
        self._logins.shutdown()


def with_database(work: Callable[[], Result]) -> Result | SmtpReply:
    """In a thread with a connection of its own, which is opened anew after trouble: the client comes again."""
    try:
        return work()
    except (DatabaseError, InterfaceError) as error:
        note_trouble("submission", error)
        return LATER
