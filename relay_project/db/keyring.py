"""The ring of secrets: the first one makes, all of them read.

APP_SECRET and the older secrets are never used directly. Each purpose (Django's own signing, fields encrypted at rest,
return-path tokens) gets a key of its own, derived by HKDF (RFC 5869), so that one leaked use tells nothing of the others.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

KEY_BYTES = 32  # octets, the size of a SHA-256 digest and of a Fernet key


class UndecryptableSecret(ValueError):
    """A stored secret was written with a key that is no longer in the ring."""


def derive(secret: str, purpose: str) -> bytes:
    """The 32-byte key of one purpose (HKDF-SHA256 with an empty salt, RFC 5869 §2, one block)."""
    pseudo_random_key = hmac.new(b"\0" * KEY_BYTES, secret.encode(), hashlib.sha256).digest()
    return hmac.new(pseudo_random_key, b"relay " + purpose.encode() + b"\x01", hashlib.sha256).digest()


def ring(purpose: str) -> list[bytes]:
    """The keys of one purpose, the current one first."""
    return list(_ring(tuple(settings.APP_SECRETS), purpose))


@lru_cache(maxsize=32)
def _ring(secrets: tuple[str, ...], purpose: str) -> tuple[bytes, ...]:
    return tuple(derive(secret, purpose) for secret in secrets)


@lru_cache(maxsize=8)
def _fernet(secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in _ring(secrets, "fields at rest")])


def encrypt(text: str) -> str:
    """The text as a Fernet token under the current key."""
    return _fernet(tuple(settings.APP_SECRETS)).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text of a token made with any key of the ring; raises UndecryptableSecret."""
    try:
        return _fernet(tuple(settings.APP_SECRETS)).decrypt(token.encode()).decode()
    except InvalidToken:
        raise UndecryptableSecret(
            "A stored secret cannot be decrypted: put the APP_SECRET it was written with into APP_SECRETS_OLD."
        ) from None


def rotate(tokens: Sequence[str]) -> list[str]:
    """The same secrets as tokens under the current key; raises UndecryptableSecret."""
    return [encrypt(decrypt(token)) for token in tokens]


def is_current(token: str) -> bool:
    """Whether the token was made with the current key, so that older ones may go."""
    try:
        _fernet(tuple(settings.APP_SECRETS[:1])).decrypt(token.encode())
    except InvalidToken:
        return False
    return True
