"""The key ring: the first secret makes, all of them read, each purpose has a key of its own."""

from typing import Any

import pytest

from relay_project.db import keyring

OLD, NEW, OTHER = ("a secret that was in use until yesterday", "a secret that is in use since today", "x" * 40)


def test_what_is_encrypted_is_read_and_looks_like_nothing(settings: Any) -> None:
    settings.APP_SECRETS = [NEW]
    token = keyring.encrypt("a private key · ключ")
    assert "private" not in token
    assert keyring.decrypt(token) == "a private key · ключ"
    assert keyring.encrypt("a private key · ключ") != token


def test_every_secret_of_the_ring_reads_and_the_first_one_makes(settings: Any) -> None:
    settings.APP_SECRETS = [OLD]
    old = keyring.encrypt("text")
    settings.APP_SECRETS = [NEW, OLD]
    new = keyring.encrypt("text")
    assert keyring.decrypt(old) == keyring.decrypt(new) == "text"
    assert (keyring.is_current(old), keyring.is_current(new)) == (False, True)
    settings.APP_SECRETS = [NEW]
    assert keyring.decrypt(new) == "text"
    with pytest.raises(keyring.UndecryptableSecret, match="APP_SECRETS_OLD"):
        keyring.decrypt(old)


def test_rotating_lets_the_old_secret_go(settings: Any) -> None:
    """Lesson S9: the secret can be changed."""
    settings.APP_SECRETS = [OLD]
    tokens = [keyring.encrypt(text) for text in ("one", "two")]
    settings.APP_SECRETS = [NEW, OLD]
    rotated = keyring.rotate(tokens)
    settings.APP_SECRETS = [NEW]
    assert [keyring.decrypt(token) for token in rotated] == ["one", "two"]


@pytest.mark.parametrize("token", ["", "not a token", "gAAAAA", "é" * 60])
def test_what_is_no_token_is_refused(settings: Any, token: str) -> None:
    settings.APP_SECRETS = [NEW, OLD]
    with pytest.raises(keyring.UndecryptableSecret):
        keyring.decrypt(token)
    assert not keyring.is_current(token)


def test_the_refusal_does_not_show_the_token(settings: Any) -> None:
    """Lesson S9: no secrets in logs."""
    settings.APP_SECRETS = [OTHER]
    token = keyring.encrypt("text")
    settings.APP_SECRETS = [NEW]
    with pytest.raises(keyring.UndecryptableSecret) as refusal:
        keyring.decrypt(token)
    assert token not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_each_purpose_has_keys_of_its_own_and_always_the_same(settings: Any) -> None:
    settings.APP_SECRETS = [NEW, OLD]
    fields, paths = keyring.ring("fields at rest"), keyring.ring("return paths")
    assert len({*fields, *paths}) == 4
    assert all(len(key) == 32 for key in fields)
    assert NEW.encode() not in fields
    assert (
        keyring.ring("return paths")
        == paths
        == [keyring.derive(NEW, "return paths"), keyring.derive(OLD, "return paths")]
    )


def test_derivation_is_hkdf() -> None:
    """RFC 5869 by the book, computed by another library."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    book = HKDF(SHA256(), 32, salt=None, info=b"relay return paths").derive(NEW.encode())
    assert keyring.derive(NEW, "return paths") == book
