"""mail.tlsa: certificates of every shape against what a domain publishes."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.tlsa import (
    DANE_EE,
    DANE_TA,
    EXACT,
    FULL,
    SHA256,
    SHA512,
    SPKI,
    Tlsa,
    public_key_info,
    usable,
    verify,
)

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "mx.example.com"
DAY = timedelta(days=1)


class Authority:
    """A certificate and its key; `issue` makes another one below it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key, self.certificate = key, certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(self, *names: str, ca: bool = False, path_length: int | None = None, **dates: datetime) -> "Authority":
        return make(names, self, ca=ca, path_length=path_length, **dates)


def make(
    names: tuple[str, ...],
    issuer: Authority | None = None,
    *,
    ca: bool = True,
    path_length: int | None = None,
    since: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
    alternative: bool = True,
) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return Authority(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


ROOT = make(("Root",))
MIDDLE = ROOT.issue("Middle", ca=True)
SERVER = MIDDLE.issue(HOST)
CHAIN = (SERVER.der, MIDDLE.der, ROOT.der)


def record(usage: int, selector: int, matching: int, of: bytes) -> Tlsa:
    selected = of if selector == FULL else public_key_info(of)
    digests = {
        EXACT: lambda d: d,
        SHA256: lambda d: hashlib.sha256(d).digest(),
        SHA512: lambda d: hashlib.sha512(d).digest(),
    }
    return Tlsa(usage, selector, matching, digests[matching](selected))


@pytest.mark.parametrize("matching", [EXACT, SHA256, SHA512])
@pytest.mark.parametrize("selector", [FULL, SPKI])
def test_the_servers_own_certificate_or_key_is_recognised(selector: int, matching: int) -> None:
    found = record(DANE_EE, selector, matching, SERVER.der)
    assert verify([found], CHAIN, [HOST], NOW) is None
    assert verify([found], [MIDDLE.der], [HOST], NOW) == "no TLSA record matches the server's certificate"


def test_with_dane_ee_neither_name_nor_date_counts() -> None:
    """RFC 7672 §3.1.1."""
    old = make(("somebody.else.example",), ca=False, until=NOW - timedelta(hours=1))
    assert verify([record(DANE_EE, SPKI, SHA256, old.der)], [old.der], [HOST], NOW) is None


@pytest.mark.parametrize("matching", [EXACT, SHA256, SHA512])
@pytest.mark.parametrize("selector", [FULL, SPKI])
@pytest.mark.parametrize("authority", [MIDDLE, ROOT])
def test_an_authority_vouches_for_the_host(authority: Authority, selector: int, matching: int) -> None:
    assert verify([record(DANE_TA, selector, matching, authority.der)], CHAIN, [HOST], NOW) is None


def test_an_authority_whose_certificate_stands_in_the_record_need_not_be_sent() -> None:
    assert verify([record(DANE_TA, FULL, EXACT, ROOT.der)], CHAIN[:2], [HOST], NOW) is None
    assert verify([record(DANE_TA, FULL, SHA256, ROOT.der)], CHAIN[:2], [HOST], NOW) is not None


def test_with_dane_ta_the_name_counts() -> None:
    """RFC 7672 §3.2.2: the host's name, or the domain's own."""
    found = [record(DANE_TA, FULL, SHA256, ROOT.der)]
    assert verify(found, CHAIN, ["other.example.com"], NOW) == (
        "the server's certificate is for none of other.example.com"
    )
    assert verify(found, CHAIN, ["other.example.com", HOST], NOW) is None
    assert verify(found, (ROOT.issue("*.example.com").der, ROOT.der), [HOST], NOW) is None
    assert verify(found, (ROOT.issue("*.com").der, ROOT.der), [HOST], NOW) is not None
    assert verify(found, (make((HOST,), ROOT, ca=False, alternative=False).der, ROOT.der), [HOST], NOW) is None


def test_with_dane_ta_the_dates_count() -> None:
    expired = ROOT.issue(HOST, until=NOW - timedelta(hours=1))
    assert verify([record(DANE_TA, FULL, SHA256, ROOT.der)], (expired.der, ROOT.der), [HOST], NOW) == (
        "a certificate is not valid today"
    )


def test_a_certificate_that_the_authority_did_not_sign_is_not_vouched_for() -> None:
    """The authority's certificate is public: anybody can send it along."""
    impostor = make(("Root",)).issue(HOST)
    assert verify([record(DANE_TA, FULL, SHA256, ROOT.der)], (impostor.der, ROOT.der), [HOST], NOW) is not None


def test_a_certificate_of_a_server_is_no_authority() -> None:
    below = Authority(SERVER.key, SERVER.certificate).issue("evil.example.com")
    chain = (below.der, *CHAIN)
    assert verify([record(DANE_TA, FULL, SHA256, ROOT.der)], chain, ["evil.example.com"], NOW) is not None
    shallow = make(("Shallow",), path_length=0)
    deep = shallow.issue("Deep", ca=True).issue(HOST)
    assert verify([record(DANE_TA, FULL, SHA256, shallow.der)], (deep.der, shallow.der), [HOST], NOW) is not None


def test_what_mail_cannot_go_by_is_unusable() -> None:
    """RFC 7672 §3.1.3: PKIX-TA and PKIX-EE; and whatever is malformed or unknown."""
    good = record(DANE_EE, SPKI, SHA256, SERVER.der)
    odd = [
        Tlsa(0, FULL, SHA256, good.data),
        Tlsa(1, FULL, SHA256, good.data),
        Tlsa(255, FULL, SHA256, good.data),
        Tlsa(DANE_EE, 2, SHA256, good.data),
        Tlsa(DANE_EE, SPKI, 3, good.data),
        Tlsa(DANE_EE, SPKI, SHA256, good.data[:-1]),
        Tlsa(DANE_EE, SPKI, EXACT, b""),
    ]
    assert usable(odd) == ()
    assert usable([*odd, good, good]) == (good,)


def test_of_digests_only_the_strongest_counts() -> None:
    """RFC 7671 §9: a broken digest must not be what an attacker aims at."""
    weak, strong = record(DANE_EE, SPKI, SHA256, SERVER.der), record(DANE_EE, SPKI, SHA512, SERVER.der)
    exact, other = record(DANE_EE, SPKI, EXACT, SERVER.der), record(DANE_TA, FULL, SHA256, ROOT.der)
    assert set(usable([weak, strong, exact, other])) == {strong, exact, other}


def test_the_key_is_taken_out_as_it_stands() -> None:
    for authority in (ROOT, SERVER):
        public = authority.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert public_key_info(authority.der) == public


def test_a_server_without_a_certificate_is_not_vouched_for() -> None:
    assert verify([record(DANE_EE, SPKI, SHA256, SERVER.der)], [], [HOST], NOW) == "the server sent no certificate"


@given(
    st.lists(st.binary(max_size=60), max_size=3),
    st.builds(Tlsa, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.binary(max_size=64)),
    st.integers(0, len(SERVER.der)),
)
def test_whatever_a_server_sends_is_judged_without_an_error(chain: list[bytes], found: Tlsa, cut: int) -> None:
    for sent in (chain, [SERVER.der[:cut], *chain], [SERVER.der, *chain]):
        for one in usable([found]):
            assert verify([one], sent, [HOST], NOW) is not None or one.matches(sent[0])
        verify([record(DANE_TA, FULL, SHA256, ROOT.der)], sent, [HOST], NOW)
