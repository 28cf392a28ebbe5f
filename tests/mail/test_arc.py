"""ARC sets: made by us and judged by dkimpy, made by us and judged by us."""

import base64
import hashlib
import time

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail import arc
from relay_project.mail.arc import Chain, ChainResult, seal, validate
from relay_project.mail.dkim import Signer, SigningKey, Unsignable, generate_rsa_key, sign, txt_value

PEM = generate_rsa_key()
KEY = SigningKey.load(PEM)
FIRST, SECOND = Signer("a.example", "s1", KEY), Signer("b.example", "s2", KEY)
DORA = Signer("dora.example", "d1", KEY)
HOSTS = {f"{one.selector}._domainkey.{one.domain}" for one in (FIRST, SECOND, DORA)}
MAIL = (
    b"Received: from x\r\n\tby y; Sat, 28 Nov 2026 07:00:00 +0000\r\nFrom: Dora <dora@dora.example>\r\n"
    b"Subject: a  folded\r\n\tsubject\r\nTo: a@a.example\r\n\r\nHello \t \r\nyou  there\t\r\n\r\n\r\n"
)
RESULTS = "mx.a.example;\r\n\tspf=pass smtp.mailfrom=dora.example;\r\n\tarc=none"


def published(name: str) -> list[str]:
    if name not in HOSTS:
        raise LookupError(name)
    return [txt_value(PEM)]


def away(name: str) -> list[str]:
    raise ConnectionError(name)


def of_dkimpy(mail: bytes) -> bytes | None:
    return dkim.arc_verify(mail, dnsfunc=lambda name, timeout=5: published(name.decode().rstrip("."))[0].encode())[0]


def sealed(mail: bytes = MAIL, signer: Signer = FIRST) -> bytes:
    return seal(mail, RESULTS, signer, validate(mail, published), 1795315070) + mail


SIGNED = sign(MAIL, [DORA], 1795315000) + MAIL
ONE = sealed(SIGNED)
TWO = sealed(b"Received: from a by b; Sat, 28 Nov 2026 07:00:01 +0000\r\n" + ONE, SECOND)
THREE = sealed(TWO)


def test_a_sealed_mail_passes_at_its_judge_and_the_first_signature_still_holds():
    for mail, number in ((ONE, 1), (TWO, 2), (THREE, 3)):
        assert of_dkimpy(mail) == dkim.CV_Pass
        assert mail.startswith(b"ARC-Seal: i=%d; cv=%b;" % (number, b"none" if number == 1 else b"pass"))
        found = validate(mail, published)
        assert (found.result, found.instance, found.is_over) == (ChainResult.PASS, number, False)
        assert mail.endswith(SIGNED)
        assert dkim.verify(mail, dnsfunc=lambda name, timeout=5: published(name.decode().rstrip("."))[0].encode())
    assert validate(TWO, published).domain == "b.example"
    assert validate(SIGNED, published) == Chain(ChainResult.NONE)


def test_what_was_changed_behind_a_set_fails_and_the_next_seal_says_so_for_good():
    for changed in (
        TWO.replace(b"Hello", b"HELLO"),
        TWO.replace(b"folded", b"bolded"),
        TWO.replace(b"spf=pass", b"spf=fail", 1),
        TWO.replace(b"i=1; mx.a.example", b"i=1; mx.b.example"),
        TWO.replace(b"cv=none", b"cv=pass"),
        TWO.replace(b"ARC-Authentication-Results: i=1", b"X: i=1"),
        TWO.replace(b"ARC-Seal: i=1", b"ARC-Seal: i=3"),
        b"ARC-Seal: i=2; a=rsa-sha256; cv=pass; d=a.example; s=s1; b=AAAA\r\n" + TWO,
    ):
        assert changed != TWO
        assert of_dkimpy(changed) == dkim.CV_Fail
        found = validate(changed, published)
        assert (found.result, found.is_over) == (ChainResult.FAIL, False)
        assert found.detail
        again = sealed(changed)
        assert again.startswith(b"ARC-Seal: i=%d; cv=fail;" % (found.instance + 1))
        after = validate(again, published)
        assert (after.result, after.is_over) == (ChainResult.FAIL, True)
        with pytest.raises(Unsignable):
            sealed(again)


def test_only_the_newest_signature_has_to_hold():
    changed = ONE.replace(b"Hello", b"[list] Hello")
    chain = Chain(ChainResult.PASS, 1, covered=validate(ONE, published).covered)
    assert validate(seal(changed, RESULTS, SECOND, chain, 1) + changed, published).result is ChainResult.PASS


def test_a_resolver_that_fails_says_nothing():
    """Lesson C21: no answer is no failure; a seal of ours would say so for good."""
    found = validate(ONE, away)
    assert found.result is ChainResult.TEMPERROR
    with pytest.raises(Unsignable):
        seal(ONE, RESULTS, SECOND, found, 1)


def test_a_key_that_is_gone_or_weak_fails():
    def nothing(name: str) -> list[str]:
        raise LookupError(name)

    assert validate(ONE, nothing).result is ChainResult.FAIL
    assert validate(ONE, lambda _: []).result is ChainResult.FAIL
    assert validate(ONE, lambda _: ["v=DKIM1; p="]).result is ChainResult.FAIL
    assert validate(ONE, lambda _: ["v=DKIM1; p=AAAA"]).result is ChainResult.FAIL


def test_the_simple_form_and_a_field_without_a_space_are_understood():
    header, body = b"From: Dora  <d@dora.example>\r\nSubject:  x\r\n", b"Hello \r\n\r\n"
    body_hash = base64.b64encode(hashlib.sha256(b"Hello \r\n").digest())
    ams = b"ARC-Message-Signature:i=1;a=rsa-sha256;c=simple/simple;d=a.example;s=s1;h=Subject:From;bh=%b;b=" % body_hash
    ams += base64.b64encode(KEY.sign(b"Subject:  x\r\nFrom: Dora  <d@dora.example>\r\n" + ams))
    aar = b"ARC-Authentication-Results:i=1;a.example;none"
    begin = b"ARC-Seal:i=1;a=rsa-sha256;cv=none;d=a.example;s=s1;b="
    covered = [b"arc-authentication-results" + aar[26:], b"arc-message-signature" + ams[21:], b"arc-seal" + begin[8:]]
    ars = begin + base64.b64encode(KEY.sign(b"\r\n".join(covered)))
    mail = b"\r\n".join([ars, ams, aar, header]) + b"\r\n" + body
    assert validate(mail, published).result is ChainResult.PASS
    assert validate(mail.replace(b"Dora  <", b"Dora <"), published).result is ChainResult.FAIL


def test_a_chain_has_fifty_sets_at_most():
    for fields in (b"ARC-Seal: i=50; cv=pass\r\n", b"ARC-Seal: i=99999999999; cv=pass\r\nARC-Seal: i=60\r\n"):
        found = validate(fields + MAIL, published)
        assert found.result is ChainResult.FAIL
        assert found.is_over is (b"i=50" in fields or b"i=60" in fields)


def test_a_mail_without_from_is_not_sealed():
    with pytest.raises(Unsignable):
        seal(b"Subject: x\r\n\r\n", RESULTS, FIRST, Chain(ChainResult.NONE), 1)


def test_hostile_fields_cost_no_time():
    began = time.monotonic()
    for value in (b" " * 200_000, b"i=1;" * 40_000, b"h=" + b"from:" * 40_000, b";b" + b" " * 200_000):
        field = b"ARC-Message-Signature: i=1; " + value + b"\r\n"
        validate(
            field + b"ARC-Seal: i=1; cv=none;" + value + b"\r\nARC-Authentication-Results: i=1; x\r\n" + MAIL, published
        )
    validate(
        ONE.replace(b"\r\n\r\nHello", b"\r\n\r\n" + b"\r\n" * 500_000 + b"Hello" + b" " * 1_000_000 + b"x"), published
    )
    assert time.monotonic() - began < 5


@given(st.binary(max_size=200), st.sampled_from([arc.SEAL, arc.SIGNATURE, arc.RESULTS]))
def test_any_octets_are_judged(octets: bytes, name: bytes):
    for field in (b"%b:%b\r\n" % (name, octets), b"%b: i=1; %b\r\n" % (name, octets), octets):
        found = validate(field + MAIL, published)
        assert found.result in (ChainResult.NONE, ChainResult.FAIL)
        if found.is_over:
            continue
        try:
            assert seal(field + MAIL, RESULTS, FIRST, found, 1)
        except Unsignable:
            assert b"From" not in (field + MAIL).partition(b"\r\n\r\n")[0], "the octets ended the header before it"
