"""Reading command lines: verbs, paths and parameters (RFC 5321 §4.1.1 and §4.1.2). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from relay_project.net.smtp_server.model import SmtpReply

MAX_LINE = 2048  # octets; RFC 5321 §4.5.3.1.4 says 512, and extensions of MAIL and RCPT add to it (ORCPT alone 500)
MAX_PATH = 512  # octets; RFC 5321 §4.5.3.1.3 says 256. Whether it is an address that can be had, the reception says
MAX_HELLO = 255  # octets, RFC 5321 §4.5.3.1.2
MAX_DSN = 512  # octets of ENVID and ORCPT; RFC 3461 §4.4 allows 100 characters, xtext triples them, §4.2 says 500

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# A path may come without its brackets, as Postfix and others have always let it. A source route (RFC 5321 appendix C) is
# read over. Spaces and ">" stand in quoted strings only.
_PATH = re.compile(
    r'\s*(?:<(?:@[^<>:\s"]+:)?(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>|(?P<bare>[^<>"\s=]+@[^<>"\s]+))(?:\s+(?P<rest>.*))?'
)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\s=][^\s]*))?")
_DIGITS = re.compile(r"[0-9]{1,20}")


class BadCommand(ValueError):
    """A line that is no command of ours; `reply` says why."""

    def __init__(self, reply: SmtpReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


CONTROLS = SmtpReply(500, "5.5.2", "Control characters have no place in a command")
NOT_UTF8 = SmtpReply(500, "5.5.2", "The command is not UTF-8")
NO_PATH = SmtpReply(501, "5.5.4", "Syntax: {keyword}:<address>")
LONG_PATH = SmtpReply(501, "5.1.7", "The address is longer than an address may be")
BAD_PARAMETER = SmtpReply(501, "5.5.4", "A parameter that cannot be read, or is there twice")
BAD_SIZE = SmtpReply(501, "5.5.4", "SIZE is a number of octets")
BAD_DSN = SmtpReply(501, "5.5.4", "RET is FULL or HDRS; NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY")


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL FROM, read."""

    address: str
    size: int | None
    eight_bit: bool
    smtputf8: bool
    ret: str
    envid: str


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT TO, read."""

    address: str
    notify: str
    orcpt: str


def read_command(line: bytes) -> tuple[str, str]:
    """Verb in capitals and what follows it, of a line without its end. Raises BadCommand."""
    if _CONTROL.search(line):
        raise BadCommand(CONTROLS)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadCommand(NOT_UTF8) from None
    verb, _, rest = text.partition(" ")
    return verb.upper(), rest.strip()


def read_mail(rest: str) -> MailCommand:
    """`FROM:<address>` and its parameters; RFC 1870, 6152, 6531, 4954 §5 and 3461. Raises BadCommand."""
    address, given = _path(rest, "FROM")
    parameters = _parameters(given, {"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"})
    ret = parameters.get("RET", "").upper()
    if "RET" in parameters and ret not in {"FULL", "HDRS"}:
        raise BadCommand(BAD_DSN)
    return MailCommand(
        address,
        _size(parameters),
        _has_eight_bit(parameters),
        _has_smtputf8(parameters),
        ret,
        _dsn_text(parameters, "ENVID"),
    )


def read_rcpt(rest: str) -> RcptCommand:
    """`TO:<address>` and its parameters. Raises BadCommand."""
    address, given = _path(rest, "TO")
    if not address:
        raise BadCommand(SmtpReply(501, "5.1.3", "A recipient has an address"))
    parameters = _parameters(given, {"NOTIFY", "ORCPT"})
    return RcptCommand(address, _notify(parameters), _dsn_text(parameters, "ORCPT"))


def _path(rest: str, keyword: str) -> tuple[str, str]:
    """The address and the parameters behind it."""
    head, colon, tail = rest.partition(":")
    match = _PATH.fullmatch(tail) if colon and head.strip().upper() == keyword else None
    if match is None:
        raise BadCommand(SmtpReply(501, "5.5.4", NO_PATH.text.format(keyword=keyword)))
    address = match["path"] if match["path"] is not None else match["bare"]
    if len(address.encode()) > MAX_PATH:
        raise BadCommand(LONG_PATH)
    return address, match["rest"] or ""


def _parameters(text: str, known: Collection[str]) -> Mapping[str, str]:
    """Parameters by their names in capitals; without a value: an empty text."""
    found: dict[str, str] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None or (name := match[1].upper()) in found:
            raise BadCommand(BAD_PARAMETER)
        if name not in known:
            raise BadCommand(SmtpReply(555, "5.5.4", f"The parameter {name[:32]} is not known here"))
        found[name] = match[2] or ""
    return found


def _size(parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("SIZE")
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise BadCommand(BAD_SIZE)
    return int(text)


def _has_eight_bit(parameters: Mapping[str, str]) -> bool:
    body = parameters.get("BODY", "7BIT").upper()
    if body not in {"7BIT", "8BITMIME"}:
        raise BadCommand(SmtpReply(501, "5.5.4", "BODY is 7BIT or 8BITMIME"))
    return body == "8BITMIME"


def _has_smtputf8(parameters: Mapping[str, str]) -> bool:
    if parameters.get("SMTPUTF8"):
        raise BadCommand(SmtpReply(501, "5.5.4", "SMTPUTF8 takes no value"))
    return "SMTPUTF8" in parameters


def _notify(parameters: Mapping[str, str]) -> str:
    notify = parameters.get("NOTIFY")
    if notify is None:
        return ""
    words = notify.upper().split(",")
    if words != ["NEVER"] and (len(set(words)) < len(words) or not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(words)):
        raise BadCommand(BAD_DSN)
    return ",".join(words)


def _dsn_text(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name, "")
    if (name in parameters and not text) or len(text) > MAX_DSN:
        raise BadCommand(BAD_PARAMETER)
    return text
