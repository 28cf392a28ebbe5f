"""One conversation: commands in order, each answered before the next is looked at (RFC 5321 §4.1, §4.3).

Ours and not aiosmtpd's. That knows no DSN parameters (555) and no enhanced codes, reads a message line by line, writes each
reply by itself (so PIPELINING would be a lie), reflects over its methods at each connection, and hands the transport to
asyncio's TLS, where a PROXY header in front of implicit TLS and a peer that resets in mid-handshake end badly. What is left
of it after overriding these is its parser of commands. A mail of 2 KB over a kept connection costs 120 µs of CPU here and
266 there, one with a connection of its own 306 and 669.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import structlog

from relay_project.net.smtp_server import counts, replies, sasl
from relay_project.net.smtp_server.command import (
    MAX_HELLO,
    MAX_LINE,
    BadCommand,
    MailCommand,
    RcptCommand,
    read_command,
    read_mail,
    read_rcpt,
)
from relay_project.net.smtp_server.data import Refusal
from relay_project.net.smtp_server.household import Household
from relay_project.net.smtp_server.model import Peer, RcptTo, Service, SmtpReply
from relay_project.net.smtp_server.transaction import End, Transaction, ask, receive, store
from relay_project.net.smtp_server.wire import Gone, Interrupted, Late, LongLine, Wire

log = structlog.get_logger(__name__)

Handler = Callable[["Session", str], Awaitable[SmtpReply | None]]
KNOWN = 50  # times the limit of errors for who has logged in: a list with many dead addresses is no attack
BROWSERS = {"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "HOST:"}  # a web page that aims at us


class Session:
    """One conversation with a peer that was let in."""

    def __init__(self, house: Household, wire: Wire, peer: Peer) -> None:
        self.peer = peer
        self.mails = self.refusals = 0
        self._house, self._wire = house, wire
        self._limits, self._reception = house.limits, house.receptions[peer.service]
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + house.limits.session_seconds
        self._fruit_until = self._loop.time() + house.limits.fruitless_seconds
        self._login: object | None = None
        self._mail: Transaction | None = None
        self._errors = self._idle = self._auth_failures = 0

    async def run(self) -> str:
        """Speak until it ends; returns why, in one of a few words. The wire is closed then."""
        reason, last = "defect", None
        try:
            if self.peer.service is Service.SUBMISSIONS and not await self._secure(keep=True):
                raise End("tls")
            await self._speak()
        except End as end:
            reason, last = end.reason, end.reply
        except Interrupted:
            reason, last = "stopped", replies.STOPPING
        except Late:
            reason, last = "late", replies.TOO_LONG_SILENT
        except (Gone, OSError):
            reason = "gone"
        except Exception:
            log.exception("smtp.session_failed", peer=self.peer.address, service=self.peer.service)
            counts.DEFECTS.inc()
            last = replies.DEFECT
        finally:
            self._hang_up(last, linger=reason not in {"quit", "gone", "tls"})
        return reason

    def _hang_up(self, last: SmtpReply | None, *, linger: bool) -> None:
        if last is not None:
            self._say(last)
        self._wire.close(linger=linger)

    async def _speak(self) -> None:
        self._wire.write(f"220 {self._house.hostname} ESMTP\r\n".encode())
        limit = MAX_LINE if self.peer.service is Service.MX else sasl.MAX_LINE
        while True:
            now = self._loop.time()
            if now >= self._until:
                raise End("session_over", replies.SESSION_OVER)
            if now >= self._fruit_until:
                raise End("fruitless", replies.FRUITLESS)
            self._wire.deadline = min(now + self._limits.command_seconds, self._until, self._fruit_until)
            try:
                line = await self._wire.line(limit)
            except LongLine:
                self._answer("other", replies.LONG_LINE)
            else:
                await self._obey(line)

    async def _obey(self, line: bytes) -> None:
        """Do what a line says, and answer."""
        verb = "other"
        try:
            verb, rest = read_command(line)
            if verb in BROWSERS:
                raise End("not_smtp", replies.NOT_SMTP)
            handler = COMMANDS.get(verb)
            if handler is None:
                verb = "other"
                reply: SmtpReply | None = replies.UNKNOWN
            else:
                reply = await handler(self, rest)
        except BadCommand as bad:
            reply = bad.reply
        if reply is not None:
            self._answer(verb, reply)

    def _answer(self, verb: str, reply: SmtpReply) -> None:
        """Say it, count it, and end where there were too many errors."""
        counts.count(counts.COMMANDS, self.peer.service, verb, f"{reply.code // 100}xx")
        self._say(reply)
        if reply.closes:
            raise End("refused")
        if not reply.is_success:
            self.refusals += 1
            self._errors += reply.code >= 500  # what may come again is not the peer's error
            if self._errors >= self._limits.errors * (KNOWN if self._login is not None else 1):
                raise End("errors", replies.TOO_MANY_ERRORS)

    def _say(self, reply: SmtpReply) -> None:
        self._wire.write(replies.encoded(reply))

    def _loiter(self) -> None:
        """Count a command that brings no mail nearer."""
        self._idle += 1
        if self._idle > self._limits.idle_commands:
            raise End("errors", replies.TOO_MANY_ERRORS)

    @property
    def _takes_logins(self) -> bool:
        return self.peer.service is not Service.MX

    # --- Greeting -----------------------------------------------------------------------------------------------------

    async def _ehlo(self, name: str) -> SmtpReply | None:
        self._greet(name, esmtp=True)
        offers = [self._house.hostname, "PIPELINING", f"SIZE {self._most_octets()}"]
        if self.peer.tls is None:
            offers.append("STARTTLS")
        elif self._takes_logins:
            offers.append("AUTH " + " ".join(sasl.MECHANISMS))
        offers += ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]
        return SmtpReply(250, "", "\n".join(offers))

    async def _helo(self, name: str) -> SmtpReply | None:
        self._greet(name, esmtp=False)
        return SmtpReply(250, "", self._house.hostname)

    def _greet(self, name: str, *, esmtp: bool) -> None:
        if not name.isascii() or not 1 <= len(name) <= MAX_HELLO or not name.isprintable():
            raise BadCommand(replies.HELLO_SYNTAX)
        self._loiter()
        self.peer = replace(self.peer, helo=name, esmtp=esmtp)
        self._mail = None

    async def _starttls(self, rest: str) -> SmtpReply | None:
        if rest:
            return replies.NO_ARGUMENT
        if self.peer.tls is not None:
            return replies.TLS_ALREADY
        self._say(replies.READY_FOR_TLS)
        if not await self._secure():
            raise End("tls")
        return None

    async def _secure(self, *, keep: bool = False) -> bool:
        """Shake hands, and know nothing any more of what was said before (RFC 3207 §4.2)."""
        self._wire.deadline = self._loop.time() + self._limits.handshake_seconds
        try:
            await self._wire.secure(self._house.certificates.context, keep=keep)
        except (ssl.SSLError, Gone, Late):
            counts.count(counts.HANDSHAKES, self.peer.service, "failed")
            return False
        tls = self._wire.tls
        assert tls is not None
        counts.count(counts.HANDSHAKES, self.peer.service, tls.version)
        self.peer = replace(self.peer, helo="", tls=tls.version, cipher=tls.cipher)
        self._mail = self._login = None
        return True

    # --- AUTH ---------------------------------------------------------------------------------------------------------

    async def _auth(self, rest: str) -> SmtpReply | None:
        refusal = self._auth_refusal()
        if refusal is not None:
            return refusal
        if self._house.peers.is_paused(self.peer.address, self._loop.time()):
            raise End("auth", replies.TOO_MANY_FAILURES)
        try:
            credentials = await sasl.read_credentials(rest, self._challenge)
        except sasl.AuthRefused as refused:
            return self._auth_failed(refused.reply)
        login = self._reception.login(self.peer, credentials.name, credentials.secret)
        answer = await ask(login, self._limits.reception_seconds)
        if isinstance(answer, SmtpReply):
            return self._auth_failed(answer)
        self._login = answer
        counts.count(counts.AUTHS, "succeeded")
        return replies.AUTHENTICATED

    def _auth_refusal(self) -> SmtpReply | None:
        """Why AUTH may not be said now (lesson S6: never in clear text, never on port 25)."""
        if not self._takes_logins:
            return replies.AUTH_NOT_HERE
        if self.peer.tls is None:
            return replies.TLS_FIRST
        if not self.peer.helo:
            return replies.HELLO_FIRST
        if self._login is not None:
            return replies.AUTH_ALREADY
        return replies.AUTH_NOT_NOW if self._mail is not None else None

    async def _challenge(self, text: str) -> bytes:
        self._wire.write(sasl.challenge(text))
        self._wire.deadline = min(self._loop.time() + self._limits.command_seconds, self._until)
        try:
            return await self._wire.line(sasl.MAX_LINE)
        except LongLine:
            raise sasl.AuthRefused(replies.LONG_LINE) from None

    def _auth_failed(self, reply: SmtpReply) -> SmtpReply:
        """Count it; a peer that tries and tries is sent away for a while. What is our own trouble does not count."""
        if reply.code < 500:
            counts.count(counts.AUTHS, "deferred")
            return reply
        counts.count(counts.AUTHS, "failed")
        self._auth_failures += 1
        too_many = self._house.peers.auth_failed(self.peer.address, self._loop.time())
        if too_many or self._auth_failures >= self._limits.session_auth_failures:
            self._answer("AUTH", reply)
            log.warning("smtp.auth_failures", peer=self.peer.address, service=self.peer.service, paused=too_many)
            raise End("auth", replies.TOO_MANY_FAILURES)
        return reply

    # --- A mail -------------------------------------------------------------------------------------------------------

    async def _mail_from(self, rest: str) -> SmtpReply | None:
        refusal = self._mail_refusal()
        if refusal is not None:
            return refusal
        command = read_mail(rest)
        if not command.address.isascii() and not command.smtputf8:
            return replies.NEEDS_SMTPUTF8
        size = command.size or 0
        if size > self._most_octets():
            return replies.message_refused(Refusal.TOO_BIG, self._most_octets())
        if size > self._house.budget.limit - self._house.budget.used:
            return replies.message_refused(Refusal.NO_ROOM, 0)
        refusal = await self._ask_sender(command)
        if refusal is not None:
            return refusal
        self._mail = Transaction(command)
        return replies.SENDER_OK

    def _mail_refusal(self) -> SmtpReply | None:
        if self._takes_logins and self.peer.tls is None:
            return replies.TLS_FIRST
        if not self.peer.helo:
            return replies.HELLO_FIRST
        if self._takes_logins and self._login is None:
            return replies.AUTH_FIRST
        return replies.ONE_MAIL if self._mail is not None else None

    async def _ask_sender(self, command: MailCommand) -> SmtpReply | None:
        asked = self._reception.sender(self.peer, self._login, command.address, command.size)
        return await ask(asked, self._limits.reception_seconds)

    async def _rcpt_to(self, rest: str) -> SmtpReply | None:
        if self._mail is None:
            return replies.MAIL_FIRST
        command = read_rcpt(rest)
        if not command.address.isascii() and not self._mail.command.smtputf8:
            return replies.NEEDS_SMTPUTF8
        if len(self._mail.recipients) >= self._most_recipients():
            return replies.TOO_MANY_RECIPIENTS
        refusal = await self._ask_recipient(self._mail, command)
        if refusal is not None:
            self._mail.refused += 1
        return refusal or replies.RECIPIENT_OK

    async def _ask_recipient(self, mail: Transaction, command: RcptCommand) -> SmtpReply | None:
        address = command.address
        if address.lower() == "postmaster":  # RFC 5321 §4.5.1
            address = f"postmaster@{self._house.domain}"
        asked = self._reception.recipient(self.peer, self._login, mail.command.address, address)
        refusal = await ask(asked, self._limits.reception_seconds)
        if refusal is None:
            mail.recipients.append(RcptTo(address, command.notify, command.orcpt))
        return refusal

    def _most_recipients(self) -> int:
        if not self._takes_logins:
            return self._limits.mx_recipients
        return cast(int, getattr(self._login, "most_recipients", None) or self._limits.submission_recipients)

    def _most_octets(self) -> int:
        return cast(int, getattr(self._login, "most_octets", None) or self._limits.message_octets)

    async def _data(self, rest: str) -> SmtpReply | None:
        if rest:
            return replies.NO_ARGUMENT
        if self._mail is None:
            return replies.MAIL_FIRST
        if not self._mail.recipients:
            return replies.NO_VALID_RECIPIENT if self._mail.refused else replies.RCPT_FIRST
        mail, self._mail = self._mail, None
        self._say(replies.GO_AHEAD)
        limit = self._most_octets()
        octets = await receive(self._house, self._wire, limit, self._deadlines())
        if isinstance(octets, Refusal):
            reply = replies.message_refused(octets, limit)
        else:
            reply = await self._hand_over(mail, octets)
        counts.count(counts.MAILS, self.peer.service, counts.result_of(reply))
        return reply

    def _deadlines(self) -> Callable[[int], float]:
        """Of the next piece of a message, after so many octets: a peer may pause, and must come forward on the whole."""
        limits, began = self._limits, self._loop.time()

        def deadline(octets: int) -> float:
            due = began + limits.data_seconds + octets / limits.data_rate
            return min(self._loop.time() + limits.data_seconds, due, self._until + limits.message_seconds)

        return deadline

    async def _hand_over(self, mail: Transaction, octets: bytes) -> SmtpReply:
        self._wire.flush()
        reply = await store(self._house, self._reception, mail.mail(self.peer, self._login, octets))
        if reply.is_success:
            self.mails += 1
            self._errors = self._idle = 0
            self._fruit_until = self._loop.time() + self._limits.fruitless_seconds
            counts.count(counts.OCTETS, self.peer.service, by=len(octets))
        return reply

    # --- The rest -----------------------------------------------------------------------------------------------------

    async def _rset(self, rest: str) -> SmtpReply | None:
        self._loiter()
        self._mail = None
        return replies.NO_ARGUMENT if rest else replies.OK

    async def _noop(self, _: str) -> SmtpReply | None:
        self._loiter()
        return replies.OK

    async def _vrfy(self, _: str) -> SmtpReply | None:
        self._loiter()
        return replies.WILL_NOT_SAY

    async def _help(self, _: str) -> SmtpReply | None:
        self._loiter()
        return replies.HELP

    async def _expn(self, _: str) -> SmtpReply | None:
        return replies.NOT_IMPLEMENTED

    async def _quit(self, rest: str) -> SmtpReply | None:
        if rest:
            return replies.NO_ARGUMENT
        raise End("quit", replies.BYE)


COMMANDS: dict[str, Handler] = {
    "EHLO": Session._ehlo,
    "HELO": Session._helo,
    "STARTTLS": Session._starttls,
    "AUTH": Session._auth,
    "MAIL": Session._mail_from,
    "RCPT": Session._rcpt_to,
    "DATA": Session._data,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "VRFY": Session._vrfy,
    "EXPN": Session._expn,
    "HELP": Session._help,
    "QUIT": Session._quit,
}
