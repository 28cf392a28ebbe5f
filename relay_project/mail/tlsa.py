"""DANE for SMTP (RFC 7672): does a server's certificate match what its domain publishes in TLSA records (RFC 6698)?

Only the usages that RFC 7672 §3.1 has for mail count: DANE-TA(2) and DANE-EE(3). `verify` gets the records as DNS
vouched for them and the certificates as the server sent them, in DER.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

DANE_TA = 2  # the record names an authority; name and dates of the certificate count
DANE_EE = 3  # the record names the server's own certificate; nothing else counts (RFC 7672 §3.1.1)
FULL, SPKI = 0, 1  # selectors: the certificate, or the key inside it
EXACT, SHA256, SHA512 = 0, 1, 2  # matching types
MAX_CHAIN = 10  # certificates looked at; real chains have two to four

_DIGEST_SIZES = {SHA256: 32, SHA512: 64}
# How `cryptography` says that a certificate of a stranger's making is broken or beyond it.
_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, order=True)
class Tlsa:
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def is_usable(self) -> bool:
        """Whether mail may rely on it (RFC 7672 §3.1.3 leaves out PKIX-TA and PKIX-EE; §2.2, "unusable")."""
        known = self.usage in (DANE_TA, DANE_EE) and self.selector in (FULL, SPKI) and bool(self.data)
        return known and (self.matching == EXACT or _DIGEST_SIZES.get(self.matching) == len(self.data))

    def matches(self, certificate: bytes) -> bool:
        """Whether it names this certificate (RFC 6698 §2.1.2, §2.1.3)."""
        try:
            selected = certificate if self.selector == FULL else public_key_info(certificate)
        except ValueError:
            return False
        if self.matching == EXACT:
            return selected == self.data
        return hashlib.new("sha256" if self.matching == SHA256 else "sha512", selected).digest() == self.data


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """The records to go by, each once: of digests for one usage and selector only the strongest (RFC 7671 §9)."""
    kept = sorted({record for record in records if record.is_usable})
    strongest = {(record.usage, record.selector): record.matching for record in kept}  # sorted, so the last one stays
    return tuple(r for r in kept if r.matching in (EXACT, strongest[r.usage, r.selector]))


def verify(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: datetime) -> str | None:
    """Why no record vouches for a server; None when one does. Never raises.

    `chain` is what the server sent, its own certificate first; `names` are the host's and, where the MX records are
    secure, the domain's own (RFC 7672 §3.2.2).
    """
    if not chain:
        return "the server sent no certificate"
    if any(record.usage == DANE_EE and record.matches(chain[0]) for record in records):
        return None
    authorities = [record for record in records if record.usage == DANE_TA]
    if not authorities:
        return "no TLSA record matches the server's certificate"
    try:
        return _verify_by_authority(authorities, chain[:MAX_CHAIN], names, now)
    except _UNREADABLE as error:
        return f"the server's certificates cannot be read: {error}"


def _verify_by_authority(
    records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: datetime
) -> str | None:
    """Go up from the server's certificate to the first one that a record names."""
    current = x509.load_der_x509_certificate(chain[0])
    published = [r.data for r in records if (r.selector, r.matching) == (FULL, EXACT)]
    others = [x509.load_der_x509_certificate(der) for der in (*chain[1:], *published)]
    if not _names_host(current, names):
        return f"the server's certificate is for none of {', '.join(names)}"
    for above in range(MAX_CHAIN):
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            return "a certificate is not valid today"
        if above and any(record.matches(_der(current)) for record in records):
            return None
        issuer = next((one for one in others if one != current and _issued(one, current, above)), None)
        if issuer is None:
            break
        current = issuer
    return "no TLSA record matches a certificate of the server's chain"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate, authorities_below: int) -> bool:
    """Whether an authority signed the certificate, and may (RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.10)."""
    try:
        certificate.verify_directly_issued_by(issuer)
        extensions = {extension.oid: extension.value for extension in issuer.extensions}
    except _UNREADABLE:
        return False
    basic = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = extensions.get(ExtensionOID.KEY_USAGE)
    return (
        isinstance(basic, x509.BasicConstraints)
        and basic.ca
        and (basic.path_length is None or basic.path_length >= authorities_below)
        and (not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign)
        and ExtensionOID.NAME_CONSTRAINTS not in extensions  # not understood here, so nothing may rest on it
    )


def _names_host(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    """By its alternative names, else by its common name (RFC 7672 §3.2.3)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        presented = [str(name) for name in found.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        presented = []
    if not presented:
        presented = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    wanted = {name.rstrip(".").lower() for name in names}
    parents = {name.partition(".")[2] for name in wanted if name.count(".") > 1}
    presented = [name.rstrip(".").lower() for name in presented]
    return any(name in wanted or (name[:2] == "*." and name[2:] in parents) for name in presented)


# --- DER, as far as the key (RFC 5280 §4.1) ------------------------------------------------------------------------


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo octets as they stand in the certificate; raises ValueError for what is none.

    Taken out and not encoded anew: the digest is over the octets that were signed, whatever a library makes of them.
    """
    outer = _inside(certificate, 0)
    fields = _inside(certificate, outer.start)
    at = fields.start
    if certificate[at : at + 1] == b"\xa0":  # the version, where it is not the first
        at = _inside(certificate, at).stop
    for _ in range(5):  # serial number, algorithm, issuer, validity, subject
        at = _inside(certificate, at).stop
    end = _inside(certificate, at).stop
    if not fields.start <= at < end <= fields.stop or certificate[at] != 0x30:
        raise ValueError("no certificate")
    return certificate[at:end]


def _inside(der: bytes, at: int) -> range:
    """Where the content of the element at `at` begins and ends."""
    if at + 2 > len(der):
        raise ValueError("no certificate")
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        size, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
        if not 1 <= octets <= 4:
            raise ValueError("no certificate")
    if begin + size > len(der):
        raise ValueError("no certificate")
    return range(begin, begin + size)
