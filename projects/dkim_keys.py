"""DKIM keys of domains: made or taken over, encrypted at rest, shown as the TXT record to publish."""

import base64
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from projects.models import DkimAlgorithm, DkimKey, DkimKeyState, Domain
from relay_project.mail.dkim import (
    MIN_RSA_BITS,
    InvalidKey,
    Signer,
    SigningKey,
    generate_ed25519_key,
    generate_rsa_key,
    public_key_pem,
)
from relay_project.web.errors import violation

RSA_BITS = 2048  # RFC 8301 §3.2; 4096 does not fit one UDP answer with everything else and signs eight times slower
MAX_RSA_BITS = 4096  # RFC 8301 §3.2: verifiers need not check longer keys; signing with them would stop the queue
MAX_PEM = 16_384  # characters; an RSA-4096 key in PKCS#8 takes about 3,300
ED25519_OCTETS = 32  # the raw key at the end of a SubjectPublicKeyInfo (RFC 8410 §4)

BAD_SELECTOR = "DKIM selector must be a valid DNS label (alphanumeric and hyphens, max 63 chars)"
BAD_KEY = "The provided DKIM private key is invalid or poorly formatted."

_SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def new_selector(now: datetime) -> str:
    """A selector that is used once: `rly`, the time and eight random digits."""
    return f"rly{now:%Y%m%d%H%M%S}{secrets.token_hex(4)}"


def check_selector(selector: str) -> str:
    """A customer's own selector in lower case (DNS compares without it); raises Violations."""
    if not _SELECTOR.fullmatch(selector):
        raise violation("dkim_selector", BAD_SELECTOR)
    return selector.lower()


def check_private_key(pem: str) -> str:
    """A customer's own key as it will be stored; raises Violations at `dkim_private_key`."""
    if len(pem) > MAX_PEM or not pem.isascii():
        raise violation("dkim_private_key", BAD_KEY)
    try:
        private = serialization.load_pem_private_key(pem.strip().encode("ascii"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise violation("dkim_private_key", BAD_KEY) from None
    if isinstance(private, rsa.RSAPrivateKey):
        _check_size(private.key_size)
    elif not isinstance(private, ed25519.Ed25519PrivateKey):
        raise violation("dkim_private_key", BAD_KEY)
    try:
        SigningKey.load(pem.strip())
    except InvalidKey:
        raise violation("dkim_private_key", BAD_KEY) from None
    return pem.strip() + "\n"


def generate_key(algorithm: DkimAlgorithm) -> str:
    """A new private key, PEM; RSA takes a tenth of a second."""
    return generate_ed25519_key() if algorithm == DkimAlgorithm.ED25519 else generate_rsa_key(RSA_BITS)


def algorithm_of(private_key_pem: str) -> DkimAlgorithm:
    """What a checked key signs with."""
    is_rsa = SigningKey.load(private_key_pem).algorithm.startswith("rsa")
    return DkimAlgorithm.RSA if is_rsa else DkimAlgorithm.ED25519


def create_dkim_key(domain: Domain, selector: str, private_key_pem: str | None = None) -> DkimKey:
    """The current key of a new domain; generates RSA-2048 when no checked PEM is given."""
    pem = private_key_pem or generate_rsa_key(RSA_BITS)
    key = DkimKey.objects.create(
        domain=domain,
        selector=selector,
        private_key=pem,
        public_key=public_key_pem(pem),
        activated_at=datetime.now(UTC),
    )
    key.domain = domain
    return key


def create_waiting_key(domain: Domain, selector: str, private_key_pem: str) -> DkimKey:
    """A key that signs once its record is in DNS, of a checked PEM; raises IntegrityError for a second selector."""
    return DkimKey.objects.create(
        domain=domain,
        selector=selector,
        private_key=private_key_pem,
        public_key=public_key_pem(private_key_pem),
        is_current=False,
        state=DkimKeyState.PENDING,
    )


def current_key(domain: Domain) -> DkimKey:
    """The key that signs for a domain and whose record is to be published; raises DkimKey.DoesNotExist."""
    key = DkimKey.objects.get(domain=domain, is_current=True)
    key.domain = domain
    return key


def keys_of(domain: Domain) -> list[DkimKey]:
    """All keys of a domain without their private halves: those that sign, those to come, those that were."""
    keys = list(DkimKey.objects.filter(domain=domain).defer("private_key").order_by("-id"))
    for key in keys:
        key.domain = domain
    order = [DkimKeyState.ACTIVE, DkimKeyState.PENDING, DkimKeyState.RETIRING, DkimKeyState.RETIRED]
    return sorted(keys, key=lambda key: (order.index(DkimKeyState(key.state)), not key.is_current))


def signing_keys(domain_ids: Collection[int]) -> dict[int, DkimKey]:
    """The current keys of many domains by domain id, with their domains, in one query; ids without one are left out."""
    keys = DkimKey.objects.filter(domain_id__in=list(domain_ids), is_current=True).select_related("domain")
    return {key.domain_id: key for key in keys}


def published_keys(domain_ids: Collection[int]) -> dict[int, DkimKey]:
    """As signing_keys, without decrypting the private halves: for lists."""
    keys = DkimKey.objects.filter(domain_id__in=list(domain_ids), is_current=True).select_related("domain")
    return {key.domain_id: key for key in keys.defer("private_key")}


def signer_of(key: DkimKey) -> Signer:
    """What mail.dkim.sign takes; loaded keys are cached there by their PEM."""
    return Signer(key.domain.domain, key.selector, SigningKey.load(key.private_key))


def dkim_host(key: DkimKey) -> str:
    """Where the record is published (RFC 6376 §3.6.2.1)."""
    return f"{key.selector}._domainkey.{key.domain.domain}"


def dkim_txt_value(key: DkimKey) -> str:
    """The record itself (RFC 6376 §3.6.1)."""
    return f"v=DKIM1; k={'ed25519' if _is_ed25519(_der(key)) else 'rsa'}; p={public_value(key)}"


def public_value(key: DkimKey) -> str:
    """The p= of the record: the SubjectPublicKeyInfo of RSA, the bare key of Ed25519 (RFC 8463 §4)."""
    der = _der(key)
    return base64.b64encode(der[-ED25519_OCTETS:] if _is_ed25519(der) else der).decode("ascii")


def _der(key: DkimKey) -> bytes:
    return base64.b64decode("".join(key.public_key.splitlines()[1:-1]))


def _is_ed25519(der: bytes) -> bool:
    return len(der) == ED25519_OCTETS + 12  # the fixed header of RFC 8410 §4; the least RSA key has 162 octets


def _check_size(bits: int) -> None:
    if bits < MIN_RSA_BITS:
        text = f"The private key is too weak ({bits} bits). Minimum {MIN_RSA_BITS} bits required."
        raise violation("dkim_private_key", text)
    if bits > MAX_RSA_BITS:
        text = f"The private key is too large ({bits} bits). Maximum {MAX_RSA_BITS} bits allowed."
        raise violation("dkim_private_key", text)
