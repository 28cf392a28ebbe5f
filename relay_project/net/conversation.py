"""What is said to and heard from an SMTP server: the values that net.smtp takes and gives back.

Nothing here touches a socket. `Envelope` and `Endpoint` go in; `Step`, `RecipientResult` and `Transaction` come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NotRequired, TypedDict

from relay_project.mail.reply import NetworkFailure, Reply, Stage

# Characters that would let an address end its command early or start another one.
_COMMAND_BREAKERS = frozenset("\r\n\0<>")


class TlsRequirement(StrEnum):
    """How much TLS a message demands; ordered, `none` < `opportunistic` < `encrypted` < `verified`."""

    NONE = "none"  # never STARTTLS, for peers whose STARTTLS is broken
    OPPORTUNISTIC = "opportunistic"  # TLS where offered, with any certificate (RFC 7435)
    ENCRYPTED = "encrypted"  # no mail without TLS, with any certificate
    VERIFIED = "verified"  # no mail without a certificate that names the host (RFC 8461 §4.1)

    @property
    def strength(self) -> int:
        """Position in the order, 0 to 3."""
        return _STRENGTH[self.value]

    def __lt__(self, other: object) -> bool:
        return self.strength < other.strength if isinstance(other, TlsRequirement) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self.strength <= other.strength if isinstance(other, TlsRequirement) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.strength > other.strength if isinstance(other, TlsRequirement) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.strength >= other.strength if isinstance(other, TlsRequirement) else NotImplemented


_STRENGTH = {"none": 0, "opportunistic": 1, "encrypted": 2, "verified": 3}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server to talk to: the MX host's name, one of its addresses, and the port."""

    host: str
    address: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds each step may take, from its command (or the reply before it) to its complete reply.

    RFC 5321 §4.5.3.2 asks for five minutes at most steps. That is for a client with one mail to send; ours has
    others waiting, retries for days, and peers that answer after a minute are tar pits more often than not. Only
    the wait after the final dot stays near the RFC's ten minutes, since giving up there may double the mail
    (RFC 1047).
    """

    connect: float = 30.0
    banner: float = 60.0
    hello: float = 60.0
    starttls: float = 30.0
    mail: float = 60.0
    rcpt: float = 60.0
    data: float = 120.0
    data_close: float = 300.0
    quit: float = 5.0


@dataclass(frozen=True, slots=True)
class Envelope:
    """The reverse path ("" is the null one) and the recipients of one transaction (RFC 5321 §3.3), each once.

    Raises ValueError for an address that would break out of its command, and for no recipient at all.
    """

    reverse_path: str
    recipients: tuple[str, ...]
    smtputf8: bool = False  # a header or an address needs RFC 6531
    eight_bit: bool = False  # the body has octets above 127 (RFC 6152)
    as_it_came: bool = False  # its header is somebody else's: SMTPUTF8 is used for it where there is, and not needed

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("an envelope needs at least one recipient")
        if not _COMMAND_BREAKERS.isdisjoint(self.reverse_path + "".join(self.recipients)):
            raise ValueError("an address contains a line end, NUL or angle bracket")
        if len(set(self.recipients)) < len(self.recipients):  # lesson C15: one RCPT for one address
            object.__setattr__(self, "recipients", tuple(dict.fromkeys(self.recipients)))


class StepRecord(TypedDict):
    """A step in the shape of the wire contract."""

    name: str
    duration_ms: int
    command: str
    reply_code: int
    reply_text: str
    note: NotRequired[str]


class Step(NamedTuple):
    """One command and its reply, as the transcript shows them; code 0 and no text where none came.

    A named tuple because five are made for each message, and it costs a third of a frozen dataclass.
    """

    name: Stage
    duration_ms: float
    command: str
    reply_code: int
    reply_text: str
    note: str = ""  # for people, where a reply looks like what it is not

    def as_record(self) -> StepRecord:
        """The step as the wire contract writes it, with whole milliseconds; a note only where there is one."""
        record: StepRecord = {
            "name": str(self.name),
            "duration_ms": round(self.duration_ms),
            "command": self.command,
            "reply_code": self.reply_code,
            "reply_text": self.reply_text,
        }
        if self.note:
            record["note"] = self.note
        return record


class RecipientResult(NamedTuple):
    """What decided about one recipient: the stage, and either the reply or the failure that came instead."""

    stage: Stage
    reply: Reply | None
    failure: NetworkFailure | None

    @property
    def accepted(self) -> bool:
        """The server took responsibility: 2xx after the final dot (RFC 5321 §4.2.5)."""
        return self.stage is Stage.DATA_CLOSE and self.reply is not None and 200 <= self.reply.code <= 299


@dataclass(frozen=True, slots=True)
class Transaction:
    """The outcome of one `deliver`: every recipient of the envelope has exactly one result."""

    steps: tuple[Step, ...]
    results: Mapping[str, RecipientResult]
    started_at: datetime
    duration_ms: float
    usable: bool  # the connection may carry another transaction
    failure: NetworkFailure | None = None  # what ended the conversation early
    stale: bool = False  # a reused connection turned out to be closed before MAIL was answered: try a new one at once


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The TLS session of a connection."""

    version: str  # as OpenSSL writes it, "TLSv1.3"
    cipher: str
    verified: bool  # the certificate was checked against the host's name; False also means "not asked for"


class ConversationFailed(ConnectionError):
    """No connection that could carry mail; `stage` and either `reply` or `failure` say why, `steps` what was said.

    After a failure at `starttls` under `opportunistic` the caller may connect again with `TlsRequirement.NONE`.
    """

    def __init__(
        self, stage: Stage, reply: Reply | None, failure: NetworkFailure | None, steps: Sequence[Step]
    ) -> None:
        self.stage = stage
        self.reply = reply
        self.failure = failure
        self.steps = tuple(steps)
        super().__init__(f"{stage.value}: {self.reason}")

    @property
    def reason(self) -> str:
        """One line for people: the failure's text, or the reply's code and text."""
        if self.failure is not None:
            return self.failure.text
        return f"{self.reply.code} {self.reply.text}" if self.reply is not None else "no reply"
