"""Access tokens of the OpenID provider: what makes one believable (RFC 9068, RFC 8725).

Only tokens of the configured issuer, for the audience that was set for the API, by an algorithm of the allow-list. Keys come
from the issuer's own key set, never from where a token's header says. An ID token is none: it is for another audience, and
says so by its nonce.
"""

import re
from datetime import datetime

import jwt
from django.conf import settings

from accounts import provider
from accounts.id_token import Claims, InvalidIdToken, NoMatchingKey, check_times, read_signed, subject_of

MAX_TOKEN = 16 * 1024  # octets; a header line that web servers take is shorter
TYPES = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})  # RFC 9068 §2.1; older providers say JWT or nothing
OF_AN_ID_TOKEN = ("nonce", "at_hash", "c_hash")  # OpenID Connect Core 1.0 §2, §3.3.2.11
_SHAPE = re.compile(
    r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
)  # RFC 7519 §3; the signature of alg none is empty


def is_token(text: str) -> bool:
    """Whether this looks like a signed token rather than like an API key, which has no dots."""
    return bool(_SHAPE.fullmatch(text))


def read_access_token(token: str, now: datetime) -> tuple[str, str, Claims]:
    """(issuer, subject, claims) of a token that is to be believed; raises InvalidIdToken, HasExpired, ProviderUnavailable."""
    if len(token) > MAX_TOKEN:
        raise InvalidIdToken("is too long")
    algorithm = _check_header(token)
    source = provider.current()
    claims = _read(token, algorithm, source)
    if claims.get("iss") != source.issuer:
        raise InvalidIdToken(f"issued by {claims.get('iss')!r}")
    audience = claims.get("aud")
    if settings.OIDC_API_AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
        raise InvalidIdToken("meant for another audience")
    if any(name in claims for name in OF_AN_ID_TOKEN):
        raise InvalidIdToken("is an ID token")
    check_times(claims, now.timestamp(), settings.OIDC_CLOCK_LEEWAY_SECONDS)
    return source.issuer, subject_of(claims), claims


def _check_header(token: str) -> str:
    """The algorithm, if it is one of ours; raises InvalidIdToken. What else the header says decides nothing."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise InvalidIdToken("not a signed token") from error
    kind, algorithm = header.get("typ"), header.get("alg")
    if (kind.lower() if isinstance(kind, str) else kind) not in TYPES or "crit" in header:
        raise InvalidIdToken(f"of the type {kind!r}")
    if not isinstance(algorithm, str) or algorithm not in settings.OIDC_API_ALGORITHMS:
        raise InvalidIdToken(f"signed with {algorithm!r}")
    return algorithm


def _read(token: str, algorithm: str, source: provider.Provider) -> Claims:
    """The signed claims. An unknown key may be a new one, or a stranger's: a look for new keys is rationed."""
    keys = provider.keys_of(source)
    try:
        return read_signed(token, keys, algorithm, settings.OIDC_VERIFY_KID)
    except NoMatchingKey:
        newer = provider.rationed_keys_of(source, keys)
        if newer is keys:
            raise
        return read_signed(token, newer, algorithm, settings.OIDC_VERIFY_KID)
