"""DKIM of mail that came in: judged, and within bounds."""

import time

import dkim
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.dkim import generate_rsa_key
from relay_project.mail.dkim_check import MAX_SIGNATURES, check_signatures

PEM = generate_rsa_key()
MAIL = b"From: dora@example.test\r\nSubject: x\r\n\r\nHello \t \r\nyou  there\t\r\n\r\n\r\n"


def signed(mail: bytes = MAIL) -> bytes:
    return dkim.sign(mail, b"s1", b"example.test", PEM.encode(), canonicalize=(b"relaxed", b"relaxed")) + mail


def published(name: str) -> list[str]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    if name != "s1._domainkey.example.test":
        raise LookupError(name)
    public = load_pem_private_key(PEM.encode(), None).public_key()
    import base64

    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"]


def away(name: str) -> list[str]:
    raise ConnectionError(name)


def test_a_signature_holds_and_a_changed_mail_shows():
    assert check_signatures(signed(), published) == [
        {"domain": "example.test", "selector": "s1", "valid": True, "error": ""}
    ]
    [changed] = check_signatures(signed().replace(b"Hello", b"HELLO"), published)
    assert not changed["valid"]
    assert changed["error"]
    [unknown] = check_signatures(signed(), away)
    assert unknown["error"].startswith("ConnectionError")


def test_only_the_first_signatures_are_looked_at():
    field = b"DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=s; h=from; bh=AAAA; b=AAAA\r\n"
    assert len(check_signatures(field * 50 + MAIL, published)) == MAX_SIGNATURES


def test_white_space_without_end_costs_no_time():
    began = time.monotonic()
    spaces = b" " * 1_000_000
    check_signatures(signed().replace(b"Hello", b"Hello" + spaces + b"x"), published)
    check_signatures(b"DKIM-Signature: v=1; h=" + spaces + b"\r\n" + MAIL, published)
    check_signatures(b"DKIM-Signature: v=1; h=" + b" " * 60_000 + b"\r\n" + MAIL, published)
    assert time.monotonic() - began < 5


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(octets: bytes):
    check_signatures(octets, published)
    check_signatures(b"DKIM-Signature: " + octets + b"\r\n" + MAIL, published)
