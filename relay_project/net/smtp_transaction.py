"""One mail over an open connection: MAIL, RCPT, DATA, the message, and a result for each recipient (RFC 5321 §3.3).

Where the server offers PIPELINING the commands up to DATA leave in one write (RFC 2920 §3.1) and the message in a
second. Where it offers CHUNKING the message is one BDAT chunk (RFC 3030), without dots to stuff and without a wait for
354; a small one leaves together with MAIL and RCPT, so that the whole mail costs one round trip. Nothing here raises
for what the peer does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from relay_project.net.conversation import Envelope, RecipientResult, Step, Timeouts, Transaction
from relay_project.net.smtp_message import WireMessage
from relay_project.net.smtp_open import OK, step_of
from relay_project.net.smtp_wire import CLOSING, Wire, WireReply

RECIPIENT_OK = range(250, 260)  # 250, 251 will forward, 252 will try (RFC 5321 §3.3, §3.5.3); lesson C5
GO_AHEAD = range(300, 400)  # 354
SLOWEST_LINK = 16_384  # octets a second for which the wait after the message is stretched
ONE_FLIGHT_MAX = 12_288  # octets sent with their commands: fits the ten segments that TCP starts with (RFC 6928)
NOT_UNDERSTOOD = range(500, 503)  # of BDAT: something on the way takes CHUNKING away and leaves it in the EHLO reply
# Why a step that was sent along with a refused one shows a refusal of its own.
SENT_ALONG = "Sent together with what was refused before it (RFC 2920); not an error."
NO_SMTPUTF8 = Reply(
    553, "5.6.7", "This mail needs SMTPUTF8 (RFC 6531), which the receiving server does not offer. [not sent]"
)
GONE = NetworkFailure(FailureKind.CUT, "the connection was closed before this mail")


class Abilities(NamedTuple):
    """What of the server's EHLO reply matters to a transaction."""

    pipelining: bool
    size: bool
    eight_bit: bool
    smtputf8: bool
    chunking: bool

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> Abilities:
        """Read them from the extensions' keywords."""
        keywords = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING")
        return cls(*(keyword in extensions for keyword in keywords))


class Command(NamedTuple):
    """A command line without its CRLF, the step it counts as, and the seconds its reply may take."""

    stage: Stage
    line: str
    wait: float


class Conversation:
    """The state of one transaction; `run` makes it and returns the outcome."""

    __slots__ = (
        "_abilities",
        "_begun",
        "_blame",
        "_deadline",
        "_envelope",
        "_message",
        "_results",
        "_sent_along",
        "_size",
        "_started_at",
        "_steps",
        "_timeouts",
        "_wire",
        "leaves_open",
        "refuses_chunks",
    )

    def __init__(
        self,
        wire: Wire,
        abilities: Abilities,
        timeouts: Timeouts,
        envelope: Envelope,
        message: WireMessage,
        deadline: float | None,
    ) -> None:
        self._wire = wire
        self._abilities = abilities
        self._timeouts = timeouts
        self._envelope = envelope
        self._message, self._size = message, message.size
        self._deadline = deadline
        self._steps: list[Step] = []
        self._results: dict[str, RecipientResult] = {}
        self._blame: RecipientResult | None = None  # what ended the conversation before its end
        self._started_at = datetime.now(UTC)
        self._begun = time.monotonic()
        self._sent_along = False  # the message has left with the commands
        self.refuses_chunks = False  # what CHUNKING promised does not hold
        self.leaves_open = False  # MAIL was accepted and the message not sent, or not taken: RSET before the next one

    async def run(self, reset_first: bool, reused: bool, rested: bool = False) -> Transaction:
        """Carry the mail; `reset_first` when the transaction before it was left open.

        `rested`: the connection lay idle, so that the server may be closing it right now. The message then waits for
        a sign of life: once it has left, a cut means that nobody knows whether it was taken (RFC 1047).
        """
        if self._needs_smtputf8() and not self._abilities.smtputf8:
            self._decide_rest(RecipientResult(Stage.MAIL, NO_SMTPUTF8, None))
        elif not reset_first or await self._reset():
            await (self._talk_in_chunks(rested) if self._abilities.chunking else self._talk())
        return self._transaction(reused)

    async def _talk(self) -> None:
        commands = [*self._commands(), Command(Stage.DATA, "DATA", self._timeouts.data)]
        replies = await self._say(commands)
        accepted = self._judge(commands, replies)
        if len(replies) < len(commands):
            return
        if replies[-1].reply.code in GO_AHEAD:
            await (self._send_message(accepted) if accepted else self._send_nothing())
        elif accepted:
            self._decide_rest(RecipientResult(Stage.DATA, replies[-1].reply, None))
        else:
            self._excuse_what_was_sent_along(replies)

    async def _talk_in_chunks(self, rested: bool) -> None:
        """One chunk is all there is, since the whole message is in memory."""
        commands = self._commands()
        if self._abilities.pipelining and self._size <= ONE_FLIGHT_MAX and not rested:
            commands.append(self._chunk())
            replies = await self._in_one_go(commands, self._message.octets)
            accepted = self._judge(commands, replies)
            if len(replies) == len(commands):
                self._judge_chunk(accepted, replies)
            return
        replies = await self._say(commands)
        accepted = self._judge(commands, replies)
        if accepted and _is_closing(replies):
            self._decide_rest(self._broken_off(commands, replies))
        elif accepted:
            await self._send_chunk(accepted)

    # the commands

    def _commands(self) -> list[Command]:
        waits, envelope = self._timeouts, self._envelope
        mail = Command(Stage.MAIL, f"MAIL FROM:<{envelope.reverse_path}>{self._parameters()}", waits.mail)
        return [mail, *(Command(Stage.RCPT, f"RCPT TO:<{address}>", waits.rcpt) for address in envelope.recipients)]

    def _chunk(self) -> Command:
        return Command(Stage.DATA_CLOSE, f"BDAT {self._size} LAST", self._wait_for_message)

    @property
    def _wait_for_message(self) -> float:
        return self._timeouts.data_close + self._size / SLOWEST_LINK

    def _parameters(self) -> str:
        size = f" SIZE={self._size}" if self._abilities.size else ""  # RFC 1870
        # RFC 6152 would have us convert or refuse where 8BITMIME is not offered; every server in use is 8-bit clean
        body = " BODY=8BITMIME" if self._envelope.eight_bit and self._abilities.eight_bit else ""
        return size + body + (" SMTPUTF8" if self._needs_smtputf8() else "")

    def _needs_smtputf8(self) -> bool:
        envelope = self._envelope
        by_header = envelope.smtputf8 and (self._abilities.smtputf8 or not envelope.as_it_came)
        return by_header or not "".join((envelope.reverse_path, *envelope.recipients)).isascii()

    # the exchanges

    async def _reset(self) -> bool:
        """The reply to RSET can only be 250; one that closes the channel, or none, ends the conversation."""
        commands = [Command(Stage.MAIL, "RSET", self._timeouts.mail)]
        replies = await self._in_one_go(commands)
        if replies and replies[0].reply.code != CLOSING:
            return True
        self._decide_rest(self._broken_off(commands, replies))
        return False

    async def _say(self, commands: Sequence[Command]) -> list[WireReply]:
        return await (self._in_one_go(commands) if self._abilities.pipelining else self._one_by_one(commands))

    async def _in_one_go(self, commands: Sequence[Command], message: bytes = b"") -> list[WireReply]:
        if not self._wire.usable:
            return []
        begun, self._sent_along = time.monotonic(), bool(message)
        data = "".join([f"{command.line}\r\n" for command in commands]).encode() + message
        replies = await self._wire.exchange(data, [command.wait for command in commands], self._deadline)
        for command, (reply, at) in zip(commands, replies, strict=False):
            self._steps.append(step_of(command.stage, command.line, at - begun, reply))
            begun = at
        if len(replies) < len(commands) and not _is_closing(replies):
            silent = commands[len(replies)]
            self._steps.append(step_of(silent.stage, silent.line, time.monotonic() - begun, None))
        return replies

    async def _one_by_one(self, commands: Sequence[Command]) -> list[WireReply]:
        """Stop where going on is pointless: MAIL refused, or every RCPT."""
        replies: list[WireReply] = []
        for command in commands:
            if command.stage is Stage.RCPT and replies[0].reply.code not in OK:
                break
            if command.stage is Stage.DATA and not _accepted(self._envelope.recipients, replies):
                break
            answered = await self._in_one_go([command])
            replies += answered
            if not answered or _is_closing(answered):
                break
        return replies

    async def _send_message(self, accepted: Sequence[str]) -> None:
        begun, command = time.monotonic(), f"[message of {self._size} bytes]"
        if self._wire.failure is not None:
            self._decide_rest(RecipientResult(Stage.DATA, None, self._wire.failure))
            return
        self.leaves_open = False
        replies = await self._wire.exchange(self._message.dot_stuffed(), (self._wait_for_message,), self._deadline)
        reply = replies[0].reply if replies else None
        self._steps.append(step_of(Stage.DATA_CLOSE, command, time.monotonic() - begun, reply))
        if reply is None:
            self._decide_rest(RecipientResult(self._stage_of_loss(), None, self._wire.failure))
            return
        for recipient in accepted:
            self._results[recipient] = RecipientResult(Stage.DATA_CLOSE, reply, None)

    async def _send_chunk(self, accepted: Sequence[str]) -> None:
        replies = await self._in_one_go([self._chunk()], self._message.octets)
        if replies:
            self._judge_chunk(accepted, replies)
        elif self._sent_along:
            self._decide_rest(RecipientResult(self._stage_of_loss(), None, self._wire.failure))
        else:
            self._decide_rest(RecipientResult(Stage.DATA, None, self._wire.failure))

    def _stage_of_loss(self) -> Stage:
        """Unless part of the message is still here, the server may have it all, and has perhaps accepted it."""
        return Stage.DATA_CLOSE if self._wire.all_written else Stage.DATA

    async def _send_nothing(self) -> None:
        """The server went ahead although it refused every recipient: end its wait with a lone dot (RFC 2920 §3.1)."""
        self.leaves_open = False
        begun = time.monotonic()
        replies = await self._wire.exchange(b".\r\n", (self._timeouts.data_close,), self._deadline)
        reply = replies[0].reply if replies else None
        self._steps.append(step_of(Stage.DATA_CLOSE, ".", time.monotonic() - begun, reply))

    # the verdicts

    def _judge(self, commands: Sequence[Command], replies: Sequence[WireReply]) -> list[str]:
        """Give results to those who will get none from the message; returns the recipients that will."""
        recipients = self._envelope.recipients
        mail = replies[0].reply if replies else None
        self.leaves_open = mail is not None and mail.code in OK
        if mail is not None and mail.code not in OK:
            self._decide_rest(RecipientResult(Stage.MAIL, mail, None))
            return []
        for recipient, (reply, _) in zip(recipients, replies[1:], strict=False):
            if reply.code not in RECIPIENT_OK:
                self._results[recipient] = RecipientResult(Stage.RCPT, reply, None)
        accepted = [recipient for recipient in recipients if recipient not in self._results]
        if len(replies) < len(commands):
            if accepted:
                self._decide_rest(self._broken_off(commands, replies))
            return []
        return accepted

    def _judge_chunk(self, accepted: Sequence[str], replies: Sequence[WireReply]) -> None:
        """A chunk that was not taken leaves the server in a state that only RSET clears (RFC 3030 §2)."""
        reply = replies[-1].reply
        self.leaves_open = not accepted or reply.code not in OK
        if not accepted:
            self._excuse_what_was_sent_along(replies)
        elif reply.code in NOT_UNDERSTOOD:
            # What it took the message for is unknown, and nothing more may be said to it.
            self.refuses_chunks = True
            text = f"the server offers CHUNKING and does not understand BDAT: {reply}"
            self._wire.fail(FailureKind.PROTOCOL, text)
            self._decide_rest(RecipientResult(Stage.DATA, None, self._wire.failure))
        else:
            for recipient in accepted:
                self._results[recipient] = RecipientResult(Stage.DATA_CLOSE, reply, None)

    def _excuse_what_was_sent_along(self, replies: Sequence[WireReply]) -> None:
        """Commands that left together with a refused one are refused in turn: after MAIL all, after the RCPTs one."""
        excused = 1 if replies[0].reply.code in OK else len(replies) - 1
        for index in range(-excused, 0):
            self._steps[index] = self._steps[index]._replace(note=SENT_ALONG)

    def _broken_off(self, commands: Sequence[Command], replies: Sequence[WireReply]) -> RecipientResult:
        """Why the rest of the commands got no reply: a 421 to the last one that did, or the failure.

        With the message sent along, the server may have taken it and only its replies were lost (RFC 1047).
        """
        if _is_closing(replies):
            return RecipientResult(commands[len(replies) - 1].stage, replies[-1].reply, None)
        if self._sent_along and self._wire.all_written:
            return RecipientResult(Stage.DATA_CLOSE, None, self._wire.failure)
        return RecipientResult(commands[len(replies)].stage, None, self._wire.failure or GONE)

    def _decide_rest(self, result: RecipientResult) -> None:
        for recipient in self._envelope.recipients:
            self._results.setdefault(recipient, result)
        self._blame = result

    def _transaction(self, reused: bool) -> Transaction:
        failure = self._blame.failure if self._blame is not None else None
        at_mail = self._blame is not None and self._blame.stage is Stage.MAIL
        return Transaction(
            steps=tuple(self._steps),
            results=self._results,
            started_at=self._started_at,
            duration_ms=(time.monotonic() - self._begun) * 1000,
            usable=self._wire.usable,
            failure=failure,
            stale=reused and at_mail and failure is not None and failure.kind is FailureKind.CUT,
        )


def _accepted(recipients: Sequence[str], replies: Sequence[WireReply]) -> bool:
    return any(reply.code in RECIPIENT_OK for reply, _ in replies[1 : len(recipients) + 1])


def _is_closing(replies: Sequence[WireReply]) -> bool:
    return bool(replies) and replies[-1].reply.code == CLOSING
