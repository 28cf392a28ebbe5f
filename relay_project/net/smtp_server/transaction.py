"""One mail of a conversation, from MAIL to the reply to its last dot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from relay_project.net.smtp_server import counts, replies
from relay_project.net.smtp_server.command import MailCommand
from relay_project.net.smtp_server.data import Intake, Refusal
from relay_project.net.smtp_server.household import Household
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Reception, SmtpReply
from relay_project.net.smtp_server.wire import Wire

MOST_PASSED_OVER = 4  # times the limit that a refused message may be big before the connection ends

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")


class End(Exception):
    """The conversation ends: why, in one of a few words, and what is said last."""

    def __init__(self, reason: str, reply: SmtpReply | None = None) -> None:
        super().__init__(reason)
        self.reason, self.reply = reason, reply


@dataclass(slots=True)
class Transaction:
    """A mail that was begun by MAIL."""

    command: MailCommand
    recipients: list[RcptTo] = field(default_factory=list)
    refused: int = 0

    def mail(self, peer: Peer, login: object | None, octets: bytes) -> Mail:
        """The whole mail."""
        said = self.command
        recipients = tuple(self.recipients)
        return Mail(peer, login, said.address, recipients, octets, said.smtputf8, said.eight_bit, said.ret, said.envid)


async def ask(answer: Awaitable[Answer], seconds: float) -> Answer | SmtpReply:
    """A reception's answer; DEFECT for one that raises or takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except Exception:
        log.exception("smtp.reception_failed")
        counts.DEFECTS.inc()
        return replies.DEFECT


async def receive(house: Household, wire: Wire, limit: int, until: Callable[[int], float]) -> bytes | Refusal:
    """Read a message to its end. At most `limit` octets of it are held, and those within the budget of all.

    `until` gives the deadline of the next piece, after so many octets. Raises what Wire.more raises, and End.
    """
    intake, held, passed = Intake(limit), 0, 0
    try:
        while True:
            data = wire.held
            used = intake.feed(data)
            passed += len(data)
            del data[: len(data) if used is None else used]
            if house.budget.take(intake.kept - held):
                held = intake.kept
            else:
                intake.refuse(Refusal.NO_ROOM)
            if used is not None:
                octets = await intake.message()
                return intake.refusal or octets
            if intake.refusal is not None and passed > limit * MOST_PASSED_OVER:
                raise End("too_big", replies.message_refused(intake.refusal, limit))
            wire.deadline = until(passed)
            await wire.more()
    finally:
        house.budget.give(held)


async def store(house: Household, reception: Reception, mail: Mail) -> SmtpReply:
    """Hand the mail over. It is never cancelled half-way: who waits too long is told to come again, and may bring it twice
    (RFC 1047)."""
    house.budget.used += len(mail.octets)
    task = asyncio.ensure_future(_message(reception, mail))
    house.storing.add(task)
    task.add_done_callback(lambda done: _stored(house, done, len(mail.octets)))
    done, _ = await asyncio.wait({task}, timeout=house.limits.store_seconds)
    if not done:
        log.error("smtp.reception_hangs", service=mail.peer.service)
    return task.result() if done else replies.DEFECT


def _stored(house: Household, task: asyncio.Future[SmtpReply], octets: int) -> None:
    house.budget.give(octets)
    house.storing.discard(task)


async def _message(reception: Reception, mail: Mail) -> SmtpReply:
    try:
        return await reception.message(mail)
    except Exception:
        log.exception("smtp.reception_failed")
        counts.DEFECTS.inc()
        return replies.DEFECT
