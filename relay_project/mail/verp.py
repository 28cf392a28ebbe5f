"""Return-path tokens: a reverse path that says which attempt a bounce belongs to, and that nobody else can make.

A token is send id, attempt id and a MAC, in lower-case base32. Lesson S7: the send's uuid is in every delivered mail,
so an unsigned path would let any recipient forge bounces for the others. The token alone says what a bounce is about:
its host is the instance's domain or the From domain's own return path, whichever was used, and proves nothing.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

PREFIX = "b."
ID_OCTETS = 7  # ids stay below 2^53
MAC_OCTETS = 16  # 128 bits of HMAC-SHA256; 30 octets in all, which base32 writes without padding or spare bits
TOKEN_LENGTH = (2 * ID_OCTETS + MAC_OCTETS) * 8 // 5  # 48 characters, so the local part has 50 of 64 octets
_PURPOSE = b"relay reverse path 1\0"
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 §6, in lower case
_PAIRS = tuple(first + second for first in _LETTERS for second in _LETTERS)
_SHIFTS = tuple(range((2 * ID_OCTETS + MAC_OCTETS) * 8 - 10, -1, -10))

ReversePathKeys = Sequence[bytes]  # the ring: the first key makes tokens, all of them verify


class NotAToken(ValueError):
    """The address is no return-path token at all."""


class ForgedToken(ValueError):
    """The address has the shape of a token, but no key of the ring made it."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine return path names."""

    send_id: int
    attempt_id: int


def make_reverse_path(send_id: int, attempt_id: int, domain: str, keys: ReversePathKeys) -> str:
    """Give the reverse path for one attempt, made with the first key of the ring.

    Ids are 0 ≤ id < 2^56. Raises OverflowError for ids outside, IndexError for an empty ring.
    """
    ids = send_id.to_bytes(ID_OCTETS, "big") + attempt_id.to_bytes(ID_OCTETS, "big")
    return f"{PREFIX}{_encode(ids + _mac(keys[0], ids))}@{domain}"


def read_reverse_path(address_or_local: str, keys: ReversePathKeys) -> Token:
    """Read a reverse path back, in whatever case it returns; the domain, if any, is the caller's business.

    Raises NotAToken for other addresses and ForgedToken for a MAC that no key of the ring made.
    """
    raw = _decode(address_or_local)
    ids, mac = raw[: 2 * ID_OCTETS], raw[2 * ID_OCTETS :]
    if not any(hmac.compare_digest(mac, _mac(key, ids)) for key in keys):
        raise ForgedToken("no key of the ring made this return path")
    return Token(int.from_bytes(ids[:ID_OCTETS], "big"), int.from_bytes(ids[ID_OCTETS:], "big"))


def _decode(address_or_local: str) -> bytes:
    """Give the octets of a token, or raise NotAToken."""
    local = address_or_local.strip().removeprefix("<").removesuffix(">").partition("@")[0].lower()
    if not local.startswith(PREFIX) or len(local) != len(PREFIX) + TOKEN_LENGTH:
        raise NotAToken("not a return-path token")
    try:
        return base64.b32decode(local[len(PREFIX) :].upper().encode("ascii"))
    except ValueError as error:
        raise NotAToken("not a return-path token") from error


def _encode(raw: bytes) -> str:
    """Write the octets of a token in base32, ten bits at a time: base64.b32encode does it in four times as many steps."""
    number = int.from_bytes(raw, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def _mac(key: bytes, ids: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104), cut as RFC 2104 §5 allows.

    Not hmac.digest(): that lets go of the interpreter, and a sender's event loop waits for it behind signing threads.
    """
    return hmac.new(key, _PURPOSE + ids, "sha256").digest()[:MAC_OCTETS]
