"""ID tokens: what makes one believable. No network, no clock; OpenID Connect Core 1.0 §3.1.3.7 point by point.

The algorithm is the configured one and asymmetric, never what the token's header asks for: with `none` anybody could
write tokens, with HS256 anybody who knows the provider's public key could (RFC 8725 §2.1, §3.1).
"""

import hmac
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from jwt.api_jws import PyJWS

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
MAX_SUBJECT = 255  # characters, OpenID Connect Core 1.0 §2

Claims = dict[str, Any]


class InvalidIdToken(ValueError):
    """The token is not to be believed; the text says why, for the log."""


class NoMatchingKey(InvalidIdToken):
    """None of the keys made this signature: worth another look with fresh keys."""


class HasExpired(InvalidIdToken):
    """The token was good once."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token for us must say; `nonce` is None where none was sent (user information)."""

    issuer: str
    client_id: str
    nonce: str | None
    leeway_seconds: float


def read_signed(token: str, keys: Iterable[dict[str, Any]], algorithm: str, verify_kid: bool = True) -> Claims:
    """The claims of a token that one of the keys signed; raises InvalidIdToken, NoMatchingKey.

    A token without `kid` is only as clear as the key set is small (Core 1.0 §10.1): with several keys that fit it is
    refused, unless `verify_kid` is off; then each is tried, whatever their names.
    """
    if algorithm not in ALGORITHMS:
        raise InvalidIdToken(f"{algorithm} is not an algorithm that signs with a key of the provider's own")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise InvalidIdToken("not a signed token") from error
    if header.get("alg") != algorithm:
        raise InvalidIdToken(f"signed with {header.get('alg')!r}, expected {algorithm}")
    for key in _candidates(header.get("kid"), keys, algorithm, verify_kid):
        try:
            payload = PyJWS(algorithms=[algorithm]).decode(token, key, algorithms=[algorithm])
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            raise InvalidIdToken(f"cannot be read: {type(error).__name__}") from error
        return _claims(payload)
    raise NoMatchingKey("no key of the provider made this signature")


def _candidates(kid: Any, keys: Iterable[dict[str, Any]], algorithm: str, verify_kid: bool) -> list[jwt.PyJWK]:
    fitting = [key for key in keys if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm]
    if kid is not None and verify_kid:
        fitting = [key for key in fitting if key.get("kid") == kid]
    usable = [key for data in fitting if (key := _usable(data, algorithm))]
    if kid is None and verify_kid and len(usable) > 1:
        raise InvalidIdToken("names no key, and the provider has several")
    return usable


def _usable(data: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    """The key, unless it is of another family: a set may hold RSA and EC keys side by side, and kinds unknown to us."""
    try:
        return jwt.PyJWK(data, algorithm)
    except jwt.PyJWTError:
        return None


def _claims(payload: bytes) -> Claims:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidIdToken("its payload is not JSON") from error
    if not isinstance(claims, dict):
        raise InvalidIdToken("its payload is not an object")
    return claims


def check_claims(claims: Claims, expected: Expected, now: datetime) -> None:
    """Refuse a token that was made for somebody else, at another time or for another sign-in; raises InvalidIdToken."""
    check_parties(claims, expected)
    check_times(claims, now.timestamp(), expected.leeway_seconds)
    if expected.nonce is not None:
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(
            nonce.encode("utf-8", "replace"), expected.nonce.encode()
        ):
            raise InvalidIdToken("its nonce is not the one of this sign-in")
    subject_of(claims)


def check_parties(claims: Claims, expected: Expected) -> None:
    """Refuse a wrong `iss`, `aud` or `azp` (Core 1.0 §3.1.3.7, 2 to 5); raises InvalidIdToken."""
    if claims.get("iss") != expected.issuer:
        raise InvalidIdToken(f"issued by {claims.get('iss')!r}")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        raise InvalidIdToken("meant for another client")
    if len(audiences) > 1 and "azp" not in claims:
        raise InvalidIdToken("has several audiences and no authorised party")
    if "azp" in claims and claims["azp"] != expected.client_id:
        raise InvalidIdToken("another client is its authorised party")


def check_times(claims: Claims, now: float, leeway: float) -> None:
    """Refuse what has run out, is not valid yet or comes from the future; raises InvalidIdToken, HasExpired."""
    if now >= _moment(claims, "exp") + leeway:
        raise HasExpired("has expired")
    if _moment(claims, "iat") > now + leeway:
        raise InvalidIdToken("was issued in the future: one of the two clocks is wrong")
    if "nbf" in claims and _moment(claims, "nbf") > now + leeway:
        raise InvalidIdToken("is not valid yet")


def _moment(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidIdToken(f"has no usable {name}")
    return value


def subject_of(claims: Claims) -> str:
    """The `sub` claim: printable, at most 255 characters; raises InvalidIdToken."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise InvalidIdToken("has no usable subject")
    return subject
