"""A mail from a real sender process to a real Postfix: what the other side's own log says of it."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.utils import timezone

from ips.models import TlsRequirement
from ips.tls_policies import set_override
from relay_project.bench.peers.postfix import Postfix, why_not
from sending.content import raw_message
from sending.models import Send
from tests.journeys.conftest import World, eventually
from tests.mail.test_tlsa import make

pytestmark = [pytest.mark.journey, pytest.mark.postfix]

HOST = "mx.sandbox.test"  # what the sandbox's DNS names for every domain


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where Postfix's own accounts may go, which they may not below pytest's."""
    path = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def postfix(folder: Path) -> Iterator[Postfix]:
    """It takes mail for any domain, over TLS where asked, and throws it away."""
    if reason := why_not():
        pytest.skip(reason)
    certificate = make((HOST,))
    key = certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(key + certificate.certificate.public_bytes(Encoding.PEM))
    (folder / "trust.pem").write_bytes(certificate.certificate.public_bytes(Encoding.PEM))
    settings = {
        "default_transport": "discard:",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": str(folder / "server.pem"),
        "smtpd_tls_loglevel": "1",
    }
    with Postfix(folder / "instance", settings) as running:
        yield running


def test_a_real_postfix_takes_a_mail_over_starttls_and_its_log_shows_it(world: World, postfix: Postfix) -> None:
    world.start_sender(OUTGOING_SMTP_PORT=str(postfix.port))
    accepted = world.send("ann@one.example", "bob@one.example", body_html="<p>Grüße</p>" * 2_000)
    eventually(lambda: world.statuses(accepted) == ["accepted", "accepted"])
    [attempt] = world.attempts(accepted)
    [conversation] = attempt.smtp_conversations.values()
    send = Send.objects.get(pk=accepted.send_id)
    size = len(raw_message(send) or b"")
    assert [step["command"] for step in conversation["steps"]][-1] == f"BDAT {size} LAST"
    assert (attempt.tls["version"], attempt.tls["policy"]) == ("TLSv1.3", "opportunistic")
    [queue_id] = re.findall(r"queued as (\w+)", conversation["steps"][-1]["reply_text"])
    log = eventually(lambda: text if "removed" in (text := postfix.log_text()) else "")
    assert "TLS connection established from" in log
    assert f"message-id=<{send.uuid}@" in log
    assert f"{queue_id}: from=<b." in log
    assert "nrcpt=2" in log


def test_a_real_postfix_proves_its_name_where_staff_ask_for_it(world: World, postfix: Postfix, folder: Path) -> None:
    set_override("one.example", TlsRequirement.VERIFIED, reason="a test", actor=None, now=timezone.now())
    world.start_sender(OUTGOING_SMTP_PORT=str(postfix.port), SMTP_TRUST_FILE=str(folder / "trust.pem"))
    accepted = world.send("ann@one.example")
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    [attempt] = world.attempts(accepted)
    assert (attempt.tls["verified"], attempt.tls["policy"]) == (True, "override")
