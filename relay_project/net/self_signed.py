"""Self-signed certificates: for the sandbox, and for our own SMTP server until it is given one."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(days=398)  # what clients take at the most (CA/Browser Forum ballot SC31); no process runs longer
COMMON_NAME_LENGTH = 64  # characters, RFC 5280 appendix A; the alternative names count


def load_self_signed(context: ssl.SSLContext, *names: str, now: datetime | None = None) -> str:
    """Give a server's context a fresh certificate for host names or addresses; returns the certificate as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, names, now or datetime.now(UTC))
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads certificates from files only
        chain = Path(folder, "chain.pem")
        chain.touch(mode=0o600)
        chain.write_text(secret + pem, encoding="ascii")
        context.load_cert_chain(chain)
    return pem


def _sign(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:COMMON_NAME_LENGTH])])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
