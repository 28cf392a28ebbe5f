"""Unsubscribe links (RFC 8058): a token that says whose mail of whom is no longer wanted, and that nobody else can make.

Everything that is needed travels in it, so a link outlives the mail that it came in. It is encrypted, not only signed:
URLs end up in logs and histories, where addresses have no business. AES-SIV (RFC 5297) needs no nonce, so the same mail
has the same link, and its 16 octets of tag are what a forger would have to guess.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

MAX_TOKEN = 1200  # characters: three ids, a list's name, an address and a domain at their longest
MAX_VALUE = 900  # octets of a List-Unsubscribe field: its link cannot be folded, and a line has 998 (RFC 5322 §2.1.1)
ID_OCTETS = 7  # ids stay below 2^53
_VERSION = b"\x01"
_PURPOSE = [b"relay unsubscribe 1"]
_END = "\0"

UnsubscribeKeys = Sequence[bytes]  # the ring: the first key makes tokens, all of them read


class NotAToken(ValueError):
    """The text is no token that a key of the ring made."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a link ends: mail to an address from a project, or only that of one of its lists.

    `from_domain` is who the mail said it was from, for the page that asks.
    """

    project_id: int
    send_id: int
    recipient_id: int
    address: str
    from_domain: str
    list_name: str | None = None


def make_token(subscription: Subscription, keys: UnsubscribeKeys) -> str:
    """The token for one recipient, in base64url without padding, made with the first key of the ring (32 octets)."""
    one = subscription
    ids = b"".join(i.to_bytes(ID_OCTETS, "big") for i in (one.project_id, one.send_id, one.recipient_id))
    texts = _END.join((one.list_name or "", one.address, one.from_domain)).encode()
    sealed = AESSIV(keys[0]).encrypt(ids + texts, _PURPOSE)
    return base64.urlsafe_b64encode(_VERSION + sealed).rstrip(b"=").decode("ascii")


def read_token(text: str, keys: UnsubscribeKeys) -> Subscription:
    """Read a token back; raises NotAToken for everything else, however it differs."""
    raw = _decode(text)
    for key in keys:
        try:
            plain = AESSIV(key).decrypt(raw, _PURPOSE)
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            continue
        ids = [int.from_bytes(plain[at : at + ID_OCTETS], "big") for at in range(0, 3 * ID_OCTETS, ID_OCTETS)]
        list_name, address, from_domain = plain[3 * ID_OCTETS :].decode().split(_END)
        return Subscription(ids[0], ids[1], ids[2], address, from_domain, list_name or None)
    raise NotAToken("no key of the ring made this token")


def _decode(text: str) -> bytes:
    """What was sealed; raises NotAToken."""
    if not text.isascii() or len(text) > MAX_TOKEN:
        raise NotAToken("not a token")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAToken("not a token") from error
    if raw[:1] != _VERSION:
        raise NotAToken("not a token of this version")
    return raw[1:]


def field_value(url: str, mailto: str | None = None) -> str:
    """The value of List-Unsubscribe (RFC 2369 §3.2): the link, then the address that takes mail instead.

    Raises ValueError for one that no line of a mail could hold.
    """
    value = f"<{url}>" if mailto is None else f"<{url}>, <{mailto}>"
    if len(f"<{url}>") > MAX_VALUE or (mailto is not None and len(mailto) > MAX_VALUE) or not value.isascii():
        raise ValueError("longer than a line of a mail")
    return value
