"""The cast as local accounts, and two OpenID providers: a real one in a process, and one whose answers a test may forge."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from accounts import provider
from accounts.models import User
from tests.accounts.cast import PASSWORD
from tests.accounts.forged_provider import ForgedProvider


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    """A quick hash where the hash is not what is tested."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(db: None, quick_hashes: None) -> User:
    """Alice, with a local login and a password."""
    person = User(login="alice@example.com", email="alice@example.com", name="Alice")
    person.set_password(PASSWORD)
    person.save()
    return person


@pytest.fixture
def sam(db: None) -> User:
    """Sam, who is staff and has no password."""
    person = User(login="sam@example.com", email="sam@example.com", name="Sam", is_staff=True)
    person.set_unusable_password()
    person.save()
    return person


def _switch_on(settings: Any, issuer: str) -> None:
    provider.forget()
    settings.OIDC_ENABLED = True
    settings.OIDC_ISSUER_URL = issuer
    settings.OIDC_RP_CLIENT_ID = "relay"
    settings.OIDC_RP_CLIENT_SECRET = "a client secret: of some+length/"
    settings.AUTHENTICATION_BACKENDS = ["accounts.oidc.Backend", "accounts.sign_in.PasswordBackend"]


@pytest.fixture(scope="session")
def _forged_server() -> Iterator[ForgedProvider]:
    server = ForgedProvider()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def forged(_forged_server: ForgedProvider, settings: Any) -> Iterator[ForgedProvider]:
    """OIDC on, at the provider that a test may forge."""
    _forged_server.reset()
    _switch_on(settings, _forged_server.issuer)
    yield _forged_server
    provider.forget()


@pytest.fixture(scope="session")
def _mock_issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("running on" in line for line in lines), "oidc-provider-mock did not start"
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture
def mock_issuer(_mock_issuer: str, settings: Any) -> Iterator[str]:
    """OIDC on, at oidc-provider-mock."""
    _switch_on(settings, _mock_issuer)
    yield _mock_issuer
    provider.forget()
