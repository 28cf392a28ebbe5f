"""One connection of the sink: finds the ends of messages across packets, answers a group of commands in one write."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, cast

from relay_project.sandbox.manners import PLAIN

if TYPE_CHECKING:
    from relay_project.sandbox.sink import Sink

END_OF_DATA = b"\r\n.\r\n"
GREETING = b"220 sink.sandbox.test ESMTP\r\n"
REPLIES = {
    b"HELO": b"250 sink.sandbox.test\r\n",
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
ACCEPTED = b"250 2.0.0 Ok: taken and forgotten\r\n"
CHUNK_TAKEN = b"250 2.0.0 Ok\r\n"
UNKNOWN = b"502 5.5.1 Not implemented\r\n"
NO_RECIPIENT = b"503 5.5.1 No recipient yet\r\n"
BAD_CHUNK = b"501 5.5.4 Syntax: BDAT size [LAST]\r\n"
READY_FOR_TLS = b"220 2.0.0 Go ahead\r\n"


def ehlo_reply(*, tls: bool, chunking: bool) -> bytes:
    """What is offered; the same for every connection, so it is made once."""
    offers = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600"]
    offers += ["CHUNKING"] if chunking else []
    offers += ["STARTTLS"] if tls else []
    lines = ["sink.sandbox.test", *offers, "ENHANCEDSTATUSCODES"]
    return "".join(f"250{' ' if at == len(lines) - 1 else '-'}{line}\r\n" for at, line in enumerate(lines)).encode()


class SinkProtocol(asyncio.Protocol):
    """One connection. Every line here is paid for once a mail, on the cores that are measured."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._counts = sink.counts
        self._partial = b""  # of a command line, or the last octets of a message
        self._in_data = False
        self._chunk = 0  # octets of BDAT still to come
        self._is_last_chunk = False
        self._recipients: list[bytes] = []
        self._closing = False
        self._secured = False
        self._early: bytes | None = None  # what comes between the handshake and the task that waits for it
        self._delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._address = str(transport.get_extra_info("sockname")[0])
        manners = self._sink.manners
        self._manner = manners.at(self._address)
        self._asks = self._manner.asks_at_rcpt or manners.knows_domains
        if self._manner.tarpit_seconds and manners.happens(self._manner.tarpit):
            self._delay = self._manner.tarpit_seconds
        self._counts.connections += 1
        self._write(GREETING)

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
            return
        replies: list[bytes] = []
        while data and not self._closing:
            if self._in_data:
                data = self._data(data, replies)
            elif self._chunk:
                data = self._bdat(data, replies)
            else:
                data = self._commands(data, replies)
        if replies:
            self._write(b"".join(replies))
        if self._closing:
            self._after_replies(self._transport.close)

    def _write(self, reply: bytes) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._write_late, reply)
        else:
            self._transport.write(reply)

    def _write_late(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)

    def _after_replies(self, step: object) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, step) if self._delay else loop.call_soon(step)  # type: ignore[arg-type]

    # --- Messages ---------------------------------------------------------------------------------------------------

    def _data(self, data: bytes, replies: list[bytes]) -> bytes:
        """Pass over message data; returns what follows its end."""
        seen = self._partial + data
        end = seen.find(END_OF_DATA)
        if end < 0:
            self._counts.octets += len(data)
            self._keep_sample(data)
            self._partial = seen[-4:]
            return b""
        rest = seen[end + 5 :]
        self._counts.octets += len(data) - len(rest) - 3
        self._keep_sample(data)
        self._in_data, self._partial = False, b""
        self._end_message(replies)
        return rest

    def _bdat(self, data: bytes, replies: list[bytes]) -> bytes:
        """Pass over a chunk (RFC 3030 §2); returns what follows it."""
        taken = min(len(data), self._chunk)
        self._chunk -= taken
        self._counts.octets += taken
        self._keep_sample(data[:taken])
        if not self._chunk:
            self._end_chunk(replies)
        return data[taken:]

    def _end_chunk(self, replies: list[bytes]) -> None:
        if not self._recipients:
            replies.append(NO_RECIPIENT)
        elif self._is_last_chunk:
            self._end_message(replies)
        else:
            replies.append(CHUNK_TAKEN)

    def _end_message(self, replies: list[bytes]) -> None:
        self._counts.take(self._recipients, self._address)
        self._recipients = []
        self._sink.sample_wanted = False
        if self._manner.cut and self._sink.manners.happens(self._manner.cut):
            replies.clear()
            self._closing = True
        else:
            replies.append(ACCEPTED)

    def _keep_sample(self, data: bytes) -> None:
        if self._sink.sample_wanted:
            self._sink.sample += data

    # --- Commands ---------------------------------------------------------------------------------------------------

    def _commands(self, data: bytes, replies: list[bytes]) -> bytes:
        """Answer command lines up to the next message; returns what follows."""
        data = self._partial + data
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            begin, at = at, end + 1
            verb = data[begin : begin + 4].upper()
            if verb == b"RCPT":
                self._rcpt(data[begin:end], replies)
            elif verb == b"DATA":
                if self._recipients:
                    replies.append(REPLIES[verb])
                    self._in_data, self._partial = True, b"\r\n"  # the end may follow at once
                    return data[at:]
                replies.append(NO_RECIPIENT)
            elif verb == b"BDAT":
                self._partial = b""
                self._begin_chunk(data[begin:end], replies)
                return data[at:]
            elif verb == b"STAR" and self._may_secure():
                self._partial = b""  # what was sent in clear text behind it is forgotten (RFC 3207 §4.2)
                self._transport.write(b"".join([*replies, READY_FOR_TLS]))
                replies.clear()
                self._secure()
                return b""
            else:
                replies.append(REPLIES.get(verb) or self._rare(verb))
                if verb in (b"RSET", b"EHLO", b"HELO"):
                    self._recipients = []
            if verb == b"QUIT" or self._closing:
                self._closing = True
                return b""
        self._partial = data[at:]
        return b""

    def _rcpt(self, line: bytes, replies: list[bytes]) -> None:
        if self._asks:
            manners = self._sink.manners
            manner = manners.of_recipient(line, self._manner) if manners.knows_domains else self._manner
            if manner is not self._manner and manner is not PLAIN:
                self._delay = max(self._delay, manner.tarpit_seconds)
            refusal = manners.refusal(line, manner)
            if refusal is not None:
                self._counts.refused += 1
                self._closing = not refusal
                replies.append(refusal)
                return
        self._recipients.append(line)
        replies.append(REPLIES[b"RCPT"])

    def _begin_chunk(self, line: bytes, replies: list[bytes]) -> None:
        words = line.split()
        if len(words) < 2 or not words[1].isdigit():
            replies.append(BAD_CHUNK)
            return
        self._chunk = int(words[1])
        self._is_last_chunk = len(words) > 2
        if not self._chunk:
            self._end_chunk(replies)

    def _rare(self, verb: bytes) -> bytes:
        if verb == b"EHLO":
            return self._sink.ehlo_secured if self._secured else self._sink.ehlo
        return f"250 {json.dumps(self._counts.as_record())}\r\n".encode() if verb == b"XSTA" else UNKNOWN

    # --- TLS --------------------------------------------------------------------------------------------------------

    def _may_secure(self) -> bool:
        return self._sink.tls is not None and not self._secured

    def _secure(self) -> None:
        assert self._sink.tls is not None
        self._transport.pause_reading()  # the hello belongs to the handshake, which resumes
        self._secured, self._recipients, self._early = True, [], b""
        self._sink.keep(asyncio.ensure_future(self._handshake(self._sink.tls)))

    async def _handshake(self, context: ssl.SSLContext) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError):
            self._transport.abort()  # the peer went away, or speaks something else
            return
        if secured is not None:
            self._transport = secured
            self._counts.handshakes += 1
            early, self._early = self._early or b"", None
            self.data_received(early)
