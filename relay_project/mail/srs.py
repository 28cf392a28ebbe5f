"""SRS: the reverse path of a mail that is passed on, from which its own can be read back (the Sender Rewriting Scheme).

    alice@shop.example                  SRS0=<opaque>=TT=shop.example=alice@ours
    SRS0=HHH=TT=shop.example=alice@a    SRS1=<opaque>=a==HHH=TT=shop.example=alice@ours     (so is an SRS1 address of b)

TT is the day, modulo 1024. What others call the hash is opaque to all but who made it: here it is the send and a MAC over it
and the rest, in lower case, since servers on the way back change the case of local parts. Where an address has no room in
64 octets, or is spelt in a way that cannot stand in another one, there is no SRS address, and a token (mail.verp) serves.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from relay_project.mail.address import MAX_LOCAL_PART

MAX_DAYS = 21  # an address is good for so long: a bounce comes within five days, or hardly ever
OPAQUE_LENGTH = 20  # base32 characters of 5 bits
ID_BITS = 53  # of an id
MAC_BITS = OPAQUE_LENGTH * 5 - ID_BITS  # 47; who guesses wins one mail with a null sender, and is counted at each try
DAYS = 1024  # after so many TT begins anew
_PURPOSE = b"relay srs 1\0"
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 §6, in lower case
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)}
_EPOCH = date(1970, 1, 1)

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")  # what needs no quotes (RFC 5321 §4.1.2)
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+")
_ANY = re.compile(r"SRS([01])[=+-](.*)", re.IGNORECASE | re.ASCII | re.DOTALL)
_OURS = re.compile(
    rf"SRS(?:0[=+-](?P<opaque0>[a-z2-7]{{{OPAQUE_LENGTH}}})=(?P<day>[a-z2-7]{{2}})=(?P<host0>[a-z0-9.-]+)=(?P<local>.+)"
    rf"|1[=+-](?P<opaque1>[a-z2-7]{{{OPAQUE_LENGTH}}})=(?P<host1>[a-z0-9.-]+)=(?P<rest>[=+-].+))",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)


class NotSrs(ValueError):
    """The address is none that this side makes."""


class ForgedSrs(ValueError):
    """The address has the shape of one of ours, but no key of the ring made it."""


class ExpiredSrs(ValueError):
    """The address is ours, and too old."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a genuine SRS address says: which send it was made for, and whose mail that was."""

    send_id: int
    sender: str


def rewrite(sender: str, send_id: int, domain: str, keys: Sequence[bytes], today: date) -> str | None:
    """The reverse path at `domain` for a mail of `sender`'s, by the first key of the ring; None where there is no room."""
    local, _, host = sender.rpartition("@")
    if not (_LOCAL.fullmatch(local) and _DOMAIN.fullmatch(host)):
        return None
    found = _ANY.fullmatch(local)
    if found and found[1] == "0":
        made = _srs1(host, local[4:], send_id, keys)
    elif found and "==" in local:
        first, rest = _srs1_parts(found[2])
        if not first:
            return None
        made = _srs1(first, rest, send_id, keys)
    else:
        day = _day(today)
        made = f"SRS0={_opaque(keys[0], send_id, f'0{day}={host}={local}')}={day}={host}={local}"
    return f"{made}@{domain}" if len(made) <= MAX_LOCAL_PART else None


def read(address: str, keys: Sequence[bytes], today: date) -> Rewritten:
    """Read a reverse path back, in whatever case it returns; its domain is the caller's business.

    Raises NotSrs for other addresses, ForgedSrs for a MAC that no key of the ring made, and ExpiredSrs.
    """
    found = _OURS.fullmatch(address.strip().removeprefix("<").removesuffix(">").rpartition("@")[0])
    if found is None:
        raise NotSrs("not an SRS address of this side")
    if found["opaque0"]:
        opaque, signed = found["opaque0"], f"0{found['day']}={found['host0']}={found['local']}"
        sender = f"{found['local']}@{found['host0']}"
    else:
        opaque, signed = found["opaque1"], f"1{found['host1']}={found['rest']}"
        sender = f"SRS0{found['rest']}@{found['host1']}"
    send_id = _number(opaque) >> MAC_BITS
    if not any(hmac.compare_digest(opaque.lower(), _opaque(key, send_id, signed)) for key in keys):
        raise ForgedSrs("no key of the ring made this address")
    # one day more, since a process whose clock is a little ahead of this one's may have made it
    if found["day"] and (_number(_day(today)) - _number(found["day"]) + 1) % DAYS > MAX_DAYS + 1:
        raise ExpiredSrs("this address is too old")
    return Rewritten(send_id, sender)


def _srs1(host: str, rest: str, send_id: int, keys: Sequence[bytes]) -> str:
    """Of an address that `host` made; it is asked itself whether that is too old. `rest` begins with its separator."""
    return f"SRS1={_opaque(keys[0], send_id, f'1{host}={rest}')}={host}={rest}"


def _srs1_parts(text: str) -> tuple[str, str]:
    """`hash=host==HHH=TT=…` → host and `=HHH=TT=…`; empty where it is no such thing."""
    _, _, behind = text.partition("=")
    host, _, rest = behind.partition("=")
    return (host, rest) if _DOMAIN.fullmatch(host) and rest[:1] in "=+-" and len(rest) > 1 else ("", "")


def _day(today: date) -> str:
    number = (today - _EPOCH).days % DAYS
    return _LETTERS[number >> 5] + _LETTERS[number & 31]


def _opaque(key: bytes, send_id: int, signed: str) -> str:
    """The id and the MAC. Raises OverflowError for an id that has no room."""
    if not 0 <= send_id < 1 << ID_BITS:
        raise OverflowError("an id has 53 bits")
    text = b"%b%d\0%b" % (_PURPOSE, send_id, signed.lower().encode("utf-8", "surrogatepass"))
    mac = int.from_bytes(hmac.new(key, text, "sha256").digest()[:8], "big") >> (64 - MAC_BITS)
    number = send_id << MAC_BITS | mac
    return "".join([_LETTERS[number >> shift & 31] for shift in range((OPAQUE_LENGTH - 1) * 5, -1, -5)])


def _number(text: str) -> int:
    number = 0
    for letter in text.lower():
        number = number << 5 | _VALUES[letter]
    return number
