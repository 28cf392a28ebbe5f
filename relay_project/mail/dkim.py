"""Signing: DKIM-Signature fields of RFC 6376 (relaxed/relaxed, rsa-sha256) and RFC 8463 (ed25519-sha256).

Our own because dkimpy signs RSA in pure Python, twenty times slower; dkimpy is the judge in the tests. All signers of
a message share one body hash and one canonical header. Both algorithms are deterministic, so the same message, keys
and timestamp give the same bytes.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

MIN_RSA_BITS = 1024  # RFC 8301 §3.2: verifiers refuse shorter keys
CACHED_KEYS = 2048  # loaded keys; loading an RSA key costs as much as a signature
CACHED_NAMES = 512  # field names, and sets of them; a project's mails have the same ones, a hostile one has its own
FOLD_AT = 72  # octets of a line inside the signature field

# Signed whenever present, except what the way changes or adds (RFC 6376 §5.4) and what is not part of the message.
UNSIGNED_HEADERS = frozenset(
    {
        b"arc-authentication-results",
        b"arc-message-signature",
        b"arc-seal",
        b"authentication-results",
        b"bcc",
        b"comments",
        b"delivered-to",
        b"dkim-signature",
        b"domainkey-signature",
        b"keywords",
        b"received",
        b"received-spf",
        b"resent-bcc",
        b"resent-cc",
        b"resent-date",
        b"resent-from",
        b"resent-message-id",
        b"resent-sender",
        b"resent-to",
        b"return-path",
        b"x-original-to",
    }
)
# Named once more than present, so that nobody can add a second one that readers show (RFC 6376 §8.15).
OVERSIGNED_HEADERS = (b"from",)

_PKCS1 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()
_WSP_RUN = re.compile(rb"[ \t]+")
_FIELD_NAME = re.compile(rb"[!-9<-~]+")  # RFC 5322 §2.2 without the semicolon, which would end the h= tag
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)


class InvalidKey(ValueError):
    """Not a key that DKIM can sign with."""


class Unsignable(ValueError):
    """Not a message with a From field."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A loaded private key and the name of its algorithm; `repr` shows no secret."""

    algorithm: str  # the a= tag
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @classmethod
    def load(cls, pem: str | bytes) -> "SigningKey":
        """Load an unencrypted PKCS#1 or PKCS#8 PEM, RSA of at least 1024 bits or Ed25519; raises InvalidKey."""
        return _load(pem.encode("ascii", "replace") if isinstance(pem, str) else pem)

    def sign(self, data: bytes) -> bytes:
        """Sign the canonical header: PKCS#1 v1.5 over SHA-256, or Ed25519 over the digest (RFC 8463 §3)."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, _PKCS1, _SHA256)
        return self.private.sign(hashlib.sha256(data).digest())


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the d=, s= and key of one signature."""

    domain: str
    selector: str
    key: SigningKey


@lru_cache(CACHED_KEYS)
def _load(pem: bytes) -> SigningKey:
    """Parse a key once. Its numbers are not checked again, which takes 40 ms: that was done where it came in."""
    try:
        private = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKey("not a private key in PEM") from error
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return SigningKey("ed25519-sha256", private)
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= MIN_RSA_BITS:
        return SigningKey("rsa-sha256", private)
    raise InvalidKey(f"neither Ed25519 nor RSA of at least {MIN_RSA_BITS} bits")


# --- signing --------------------------------------------------------------------------------------------------------


def sign(message: bytes, signers: Sequence[Signer], timestamp: int) -> bytes:
    """Give the DKIM-Signature fields, in the order of the signers, each ending with CRLF, to put before the message.

    `message` has CRLF line ends; `timestamp` (seconds) becomes t=. Raises Unsignable when there is no From.
    """
    header, _, body = message.partition(b"\r\n\r\n")
    names, canonical = _canonical_header(header)
    body_hash = base64.b64encode(hashlib.sha256(canonical_body(body)).digest())
    common = b"t=%d; q=dns/txt;\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (timestamp, fold_names(names), body_hash)
    relaxed = _unfolded(common)
    return b"".join([_signature(signer, common, canonical, relaxed) for signer in signers])


def _signature(signer: Signer, common: bytes, canonical: bytes, relaxed: bytes) -> bytes:
    """Write and sign one field; b= is empty while signing and folded freely afterwards (RFC 6376 §3.7)."""
    begin, relaxed_begin = _beginning(signer.key.algorithm, signer.domain, signer.selector)
    signature = signer.key.sign(b"%b%b%b" % (canonical, relaxed_begin, relaxed))
    encoded = binascii.b2a_base64(signature, newline=False)
    lines = [encoded[i : i + FOLD_AT] for i in range(0, len(encoded), FOLD_AT)]
    return b"%b%b%b\r\n" % (begin, common, b"\r\n\t ".join(lines))


@lru_cache(CACHED_KEYS)
def _beginning(algorithm: str, domain: str, selector: str) -> tuple[bytes, bytes]:
    """The field up to t=, as sent and in canonical form: the same for every message of a signer."""
    value = f"v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={selector};\r\n\ti=@{domain};\r\n\t"
    encoded = value.encode("ascii")
    return b"DKIM-Signature: " + encoded, b"dkim-signature:" + _unfolded(encoded)


def _unfolded(value: bytes) -> bytes:
    """Canonicalise what is written here (RFC 6376 §3.4.2): its only white space in a row is that of its folds."""
    return value.replace(b"\r\n\t ", b" ").replace(b"\r\n\t", b" ")


def _canonical_header(header: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Give the names for h= and the canonical fields in that order.

    Of a repeated field the last one is named first: verifiers take them from the bottom up (RFC 6376 §5.4.2).
    """
    fields = [_relaxed_field(field) for field in reversed(split_fields(header))]
    signed = [(name, value) for name, value in fields if name]
    names = tuple([name for name, _ in signed])
    if b"from" not in names:
        raise Unsignable("a message without From cannot be signed")
    return names + OVERSIGNED_HEADERS, b"".join([b"%b:%b\r\n" % field for field in signed])


def split_fields(header: bytes) -> list[bytes]:
    """Split a header into its fields, each with its continuation lines."""
    fields: list[bytes] = []
    for line in header.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += b"\r\n" + line
        else:
            fields.append(line)
    return fields


def _relaxed_field(field: bytes) -> tuple[bytes, bytes]:
    """Canonicalise one field (RFC 6376 §3.4.2); the name is empty for one that is not signed."""
    name, colon, value = field.partition(b":")
    name = _signed_name(name) if colon else b""
    if b"\r\n" in value:
        value = value.replace(b"\r\n", b"")
    if b"  " in value or b"\t" in value:
        value = _WSP_RUN.sub(b" ", value)
    return name, value.strip(b" \t")


@lru_cache(CACHED_NAMES)
def _signed_name(name: bytes) -> bytes:
    """The canonical name of a field that is signed; empty for others and for what is no name."""
    name = name.rstrip(b" \t").lower()
    return name if name not in UNSIGNED_HEADERS and _FIELD_NAME.fullmatch(name) else b""


def canonical_body(body: bytes) -> bytes:
    """Canonicalise the body (RFC 6376 §3.4.4), with whole-body replacements in place of a look at each line.

    A last line without CRLF is taken as SMTP will send it: ended, and without spaces before that end.
    """
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:  # each round halves every run
        body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = body.removesuffix(b" ")
    end = len(body)
    while body[end - 4 : end] == b"\r\n\r\n":  # an index, since a hostile body can have millions of empty lines
        end -= 2
    body = body[:end]
    if body == b"\r\n":
        return b""
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"


@lru_cache(CACHED_NAMES)
def fold_names(names: tuple[bytes, ...]) -> bytes:
    """Write the h= list, broken after colons."""
    lines, line = [], names[0]
    for name in names[1:]:
        if len(line) + len(name) + 1 > FOLD_AT:
            lines.append(line + b":")
            line = name
        else:
            line += b":" + name
    return b"\r\n\t ".join([*lines, line])


# --- keys and their DNS record --------------------------------------------------------------------------------------


def generate_rsa_key(bits: int = 2048) -> str:
    """Make an RSA key and give it as PKCS#8 PEM."""
    return _private_pem(rsa.generate_private_key(public_exponent=65537, key_size=bits))


def generate_ed25519_key() -> str:
    """Make an Ed25519 key and give it as PKCS#8 PEM."""
    return _private_pem(ed25519.Ed25519PrivateKey.generate())


def _private_pem(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    """Write a private key."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def public_key_pem(pem: str | bytes) -> str:
    """Give the public half of a private key as SubjectPublicKeyInfo PEM; raises InvalidKey."""
    public = SigningKey.load(pem).private.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode(
        "ascii"
    )


def txt_value(pem: str | bytes) -> str:
    """Give the TXT record that publishes the public half of a private key (RFC 6376 §3.6.1, RFC 8463 §4)."""
    public = SigningKey.load(pem).private.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode('ascii')}"
    raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(raw).decode('ascii')}"


def public_key_of_txt(text: str) -> str | None:
    """Give the p= value of a DKIM record, without its spaces; empty for a revoked key, None when it is no such record.

    The strings of the TXT record are already joined. Never raises.
    """
    tags: dict[str, str] = {}
    for part in text.split(";"):
        match = _TAG.fullmatch(part)
        if match:
            tags.setdefault(match[1], "".join(match[2].split()))
    if tags.get("v", "DKIM1") != "DKIM1":
        return None
    return tags.get("p")
