"""ARC (RFC 8617): what a mail that is passed on says of how it was found, so that the next server need not judge by us.

A set has three fields: the results (ARC-Authentication-Results), a signature over the mail as it leaves
(ARC-Message-Signature) and a seal over all sets (ARC-Seal), each with the number of its set, i=. `validate` judges the sets
that are there, `seal` makes the next one. Our own for the reasons of mail.dkim; dkimpy is the judge in the tests: its
signer is slow, and its verifier hashes the body once for each set and stumbles over fields without a space before i=.

The look-up is the caller's, as in mail.dkim_check. What nobody answered is `temperror`, no failure: a seal that says
`fail` says so for good.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from relay_project.mail.dkim import (
    FOLD_AT,
    MIN_RSA_BITS,
    UNSIGNED_HEADERS,
    Signer,
    Unsignable,
    canonical_body,
    fold_names,
    public_key_of_txt,
    split_fields,
)
from relay_project.mail.text import clean

MAX_SETS = 50  # RFC 8617 §4.2.1
MAX_HEADER = 262_144  # octets that are looked at
RESULTS, SIGNATURE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_SET = (RESULTS, SIGNATURE, SEAL)  # in the order in which a seal covers them (§5.1.1)
# The newest signature covers those of DKIM, which are part of what was found (§4.1.2).
_NOT_SIGNED = UNSIGNED_HEADERS - {b"dkim-signature"}

_NUMBER = re.compile(rb"[1-9][0-9]{0,3}")
_B_TAG = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_WHITE = re.compile(rb"[ \t]+")
_NAME = re.compile(rb"[!-9<-~]+")

TxtLookup = Callable[[str], list[str]]


class ChainResult(StrEnum):
    """What validating the sets gave (§5.2)."""

    NONE = "none"  # there are no sets
    PASS = "pass"  # noqa: S105 — RFC 8617's word
    FAIL = "fail"
    TEMPERROR = "temperror"  # DNS did not answer


@dataclass(frozen=True, slots=True)
class Chain:
    """The sets of a mail. `instance`: the highest number; `is_over`: no set may follow; `domain`: of the newest seal."""

    result: ChainResult
    instance: int = 0
    is_over: bool = False
    domain: str = ""
    detail: str = ""
    covered: tuple[bytes, ...] = field(default=(), repr=False)  # all fields in canonical form, as a seal covers them


class _Broken(ValueError):
    """The chain does not hold; the message says why."""


# --- judging what is there ------------------------------------------------------------------------------------------


def validate(message: bytes, txt: TxtLookup) -> Chain:
    """Judge the sets of a message with CRLF line ends. Raises nothing that the look-up does not."""
    header, _, body = message.partition(b"\r\n\r\n")
    fields = split_fields(header[:MAX_HEADER])
    found = [one for one in fields if _name(one) in _SET]
    if not found:
        return Chain(ChainResult.NONE)
    sets, instance = _sets(found)
    newest = _tags(sets[instance][SEAL][0]) if sets[instance][SEAL] else {}
    domain = clean(newest.get(b"d", b""), 253)
    is_over = instance >= MAX_SETS or newest.get(b"cv", b"").lower() == b"fail"
    try:
        covered = _check_shape(sets, instance, len(found))
        _check_signature(sets[instance][SIGNATURE][0], fields, body, txt)
        for number in range(instance, 0, -1):
            _check_seal(sets[number][SEAL][0], covered[: number * 3], txt)
    except _Broken as why:
        return Chain(ChainResult.FAIL, instance, is_over, domain, str(why))
    except OSError as error:
        return Chain(ChainResult.TEMPERROR, instance, is_over, domain, clean(str(error), 200))
    return Chain(ChainResult.PASS, instance, is_over, domain, "", covered)


def _sets(found: Sequence[bytes]) -> tuple[dict[int, dict[bytes, list[bytes]]], int]:
    """The fields by set and name, and the highest number; 0 is of those that have none."""
    sets: dict[int, dict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        text = _tags(one).get(b"i", b"")
        number = min(int(text), MAX_SETS + 1) if _NUMBER.fullmatch(text) else 0
        sets[number][_name(one)].append(one)
    return sets, max(sets)


def _check_shape(sets: dict[int, dict[bytes, list[bytes]]], instance: int, count: int) -> tuple[bytes, ...]:
    """§5.2, steps 1 to 3: complete sets 1 to n, none of which says that the chain was broken. All fields, canonical."""
    if instance > MAX_SETS or set(sets) != set(range(1, instance + 1)) or count != 3 * instance:
        raise _Broken("the sets are not complete")
    for number in range(1, instance + 1):
        if any(len(sets[number][name]) != 1 for name in _SET):
            raise _Broken(f"set {number} is not complete")
        cv = _tags(sets[number][SEAL][0]).get(b"cv", b"").lower()
        if cv != (b"none" if number == 1 else b"pass"):
            raise _Broken(f"the seal of set {number} says cv={clean(cv, 20)}")
    return tuple(_relaxed(sets[number][name][0]) for number in range(1, instance + 1) for name in _SET)


def _check_seal(seal_field: bytes, covered: Sequence[bytes], txt: TxtLookup) -> None:
    tags = _tags(seal_field)
    if b"h" in tags:
        raise _Broken("a seal names fields in h=")
    signed = b"\r\n".join([*covered[:-1], _without_b(covered[-1])])
    _check(tags, signed, txt, f"the seal of set {clean(tags.get(b'i', b''), 4)}")


def _check_signature(signature: bytes, fields: Sequence[bytes], body: bytes, txt: TxtLookup) -> None:
    """The newest set's alone has to hold: what came after the others may have changed the mail (§5.2, step 4)."""
    tags = _tags(signature)
    how_header, _, how_body = tags.get(b"c", b"relaxed/relaxed").lower().partition(b"/")
    names = [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]
    if SEAL in names or b"from" not in names or b"l" in tags:
        raise _Broken("the newest signature covers what it may not, or not what it must")
    if {how_header, how_body or b"simple"} - {b"simple", b"relaxed"}:
        raise _Broken("the newest signature is of an unknown form")
    canonical = canonical_body(body) if how_body == b"relaxed" else _simple_body(body)
    if not hmac.compare_digest(base64.b64encode(hashlib.sha256(canonical).digest()), _packed(tags.get(b"bh", b""))):
        raise _Broken("the body was changed behind the newest set")
    form = _relaxed if how_header == b"relaxed" else bytes
    left = defaultdict(list)
    for one in fields:
        left[_name(one)].append(one)
    chosen = [form(left[name].pop()) + b"\r\n" for name in names if name and left[name]]
    _check(tags, b"".join(chosen) + _without_b(form(signature)), txt, "the newest signature")


def _check(tags: dict[bytes, bytes], signed: bytes, txt: TxtLookup, what: str) -> None:
    """Raises _Broken unless the key at s= and d= made b=."""
    if tags.get(b"a", b"").lower() != b"rsa-sha256":
        raise _Broken(f"{what} is of an unknown algorithm")
    key = _key(tags, txt, what)
    try:
        key.verify(base64.b64decode(_packed(tags.get(b"b", b""))), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error):
        raise _Broken(f"{what} does not match") from None


def _key(tags: dict[bytes, bytes], txt: TxtLookup, what: str) -> rsa.RSAPublicKey:
    host = f"{clean(tags.get(b's', b''), 63)}._domainkey.{clean(tags.get(b'd', b''), 253)}"
    try:
        texts = txt(host)
    except (LookupError, ValueError):
        raise _Broken(f"{what} has no key at {host}") from None
    try:
        key = serialization.load_der_public_key(base64.b64decode((public_key_of_txt(texts[0]) if texts else "") or ""))
    except (ValueError, UnsupportedAlgorithm):
        raise _Broken(f"the key at {host} cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise _Broken(f"the key at {host} is too weak")
    return key


# --- making the next set ---------------------------------------------------------------------------------------------


def seal(message: bytes, results: str, signer: Signer, chain: Chain, timestamp: int) -> bytes:
    """The three fields of the next set, each with its CRLF, to put before the message as it will leave.

    `results` is the value of Authentication-Results, in ASCII and folded; `chain` what `validate` found. Raises Unsignable
    where no set may follow, or the message has no From.
    """
    if chain.is_over or chain.result is ChainResult.TEMPERROR:
        raise Unsignable("no set may follow")
    number = chain.instance + 1
    header, _, body = message.partition(b"\r\n\r\n")
    found = b"ARC-Authentication-Results: i=%d; %b" % (number, results.encode("ascii"))
    signature = _signature(number, header, body, signer, timestamp)
    begin = f"ARC-Seal: i={number}; cv={chain.result}; {_who(signer, timestamp)};\r\n\tb=".encode("ascii")
    # Of a chain that is broken the seal covers its own set alone (§5.1.2).
    before = chain.covered if chain.result is ChainResult.PASS else ()
    covered = b"\r\n".join([*before, _relaxed(found), _relaxed(signature), _relaxed(begin)])
    return b"%b\r\n%b\r\n%b\r\n" % (begin + _signed(signer, covered), signature, found)


def _signature(number: int, header: bytes, body: bytes, signer: Signer, timestamp: int) -> bytes:
    fields = [one for one in reversed(split_fields(header)) if (name := _name(one)) and name not in _NOT_SIGNED]
    names = [_name(one) for one in fields]
    if b"from" not in names:
        raise Unsignable("a message without From cannot be signed")
    body_hash = base64.b64encode(hashlib.sha256(canonical_body(body)).digest())
    begin = b"ARC-Message-Signature: i=%d; c=relaxed/relaxed; %b;\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (
        number,
        _who(signer, timestamp).encode("ascii"),
        fold_names((*names, b"from")),
        body_hash,
    )
    return begin + _signed(signer, b"\r\n".join([*map(_relaxed, fields), _relaxed(begin)]))


def _who(signer: Signer, timestamp: int) -> str:
    return f"a={signer.key.algorithm};\r\n\td={signer.domain}; s={signer.selector}; t={timestamp}"


def _signed(signer: Signer, data: bytes) -> bytes:
    encoded = binascii.b2a_base64(signer.key.sign(data), newline=False)
    return b"\r\n\t ".join([encoded[place : place + FOLD_AT] for place in range(0, len(encoded), FOLD_AT)])


# --- canonical forms (RFC 6376 §3.4) ---------------------------------------------------------------------------------


def _name(one: bytes) -> bytes:
    name, colon, _ = one.partition(b":")
    name = name.rstrip(b" \t").lower()
    return name if colon and _NAME.fullmatch(name) else b""


def _relaxed(one: bytes) -> bytes:
    name, _, value = one.partition(b":")
    return b"%b:%b" % (name.rstrip(b" \t").lower(), _WHITE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" \t"))


def _simple_body(body: bytes) -> bytes:
    end = len(body)
    while body[end - 4 : end] == b"\r\n\r\n":
        end -= 2
    body = body[:end]
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def _without_b(canonical: bytes) -> bytes:
    name, _, value = canonical.partition(b":")
    return b"%b:%b" % (name, _B_TAG.sub(rb"\1", value, count=1))


def _tags(one: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for part in one.partition(b":")[2].split(b";"):
        name, _, value = part.partition(b"=")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _packed(value: bytes) -> bytes:
    return b"".join(value.split())
