"""Applications that speak SMTP: what they submit on 587 and 465 arrives as they made it, with the envelope's people alone."""

import json
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from projects.api_keys import create_key
from projects.scopes import Scope
from relay_project.net.tcp import free_port
from relay_project.sandbox.smtp import ReceivedMail
from sending.models import Recipient, Send
from tests.journeys.conftest import REPOSITORY, World, database_url, eventually
from tests.journeys.nodemailer import installed

pytestmark = pytest.mark.journey

ADDED = {b"dkim-signature", b"date", b"message-id"}
TAKEN_OUT = re.compile(rb"(?:bcc|x-relay-[a-z-]+|x-idempotency-key):", re.IGNORECASE)
SENDER = "app@shop.example"


@dataclass
class Submission:
    """A run_smtp of its own, and a key to it."""

    world: World
    token: str
    starttls: int
    tls: int

    def smtp(self, implicit: bool = False) -> smtplib.SMTP:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it made its certificate itself
        if implicit:
            server: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", self.tls, timeout=20, context=context)
        else:
            server = smtplib.SMTP("127.0.0.1", self.starttls, timeout=20)
            server.starttls(context=context)
        try:
            server.login("any", self.token)
        except smtplib.SMTPAuthenticationError:
            server.close()
            raise
        return server

    def arrived(self, count: int) -> list[ReceivedMail]:
        """What the internet got, one transaction each, in the order of their recipients."""
        eventually(lambda: len(self.world.internet.received) >= count)
        return sorted(self.world.internet.received, key=lambda mail: mail.recipients)


@pytest.fixture
def submission(world: World) -> Iterator[Submission]:
    ports = [free_port() for _ in range(3)]
    _, token = create_key(world.project, "SMTP", [Scope.SENDS_SEND], ["127.0.0.0/24"])
    environment = {
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "relay_project.settings",
        "APP_SECRET": settings.APP_SECRETS[0],
        "SMTP_MX": "",
        "SMTP_SUBMISSION": f"127.0.0.1:{ports[0]}",
        "SMTP_SUBMISSIONS": f"127.0.0.1:{ports[1]}",
        "PROBE_SMTP": f"127.0.0.1:{ports[2]}",
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_smtp"], cwd=REPOSITORY, env={**os.environ, **environment},
        stderr=None if os.environ.get("SHOW_SENDERS") else subprocess.DEVNULL,
    )  # fmt: skip
    world.start_sender()
    for port in ports[:2]:
        await_port(port)
    yield Submission(world, token, *ports[:2])
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def await_port(port: int) -> None:
    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(is_open)


def as_made(octets: bytes) -> bytes:
    """A mail as its client made it, as it should arrive: without what is taken out."""
    head, _, body = octets.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", head)
    return b"\r\n".join(field for field in fields if not TAKEN_OUT.match(field)) + b"\r\n\r\n" + body


def without_added(arrived: bytes, made: bytes) -> bytes:
    """A mail as it arrived, without the fields that Relay puts in front of it."""
    while not arrived.startswith(made[:20]):
        field = re.match(rb"([A-Za-z-]+):.*?\r\n(?![ \t])", arrived, re.DOTALL)
        assert field is not None, arrived[:200]
        assert field[1].lower() in ADDED, field[1]
        arrived = arrived[field.end() :]
    return arrived


def letter(to: str, **fields: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTPUTF8 if not to.isascii() else SMTP)
    mail["From"], mail["To"], mail["Subject"] = f"App <{SENDER}>", to, "A submission"
    for name, value in fields.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Hello.\n.\n..dots, and   spaces  \n", cte="8bit")
    return mail


def test_python_submits_on_both_ports_and_it_arrives_as_it_was_made(submission: Submission) -> None:
    """Lesson C19: Bcc and the structure were lost, and anything over a mebibyte."""
    plain = letter("a-plain@one.example", X_Relay_Tags="welcome", Bcc="named@one.example")
    rich = letter("b-rich@one.example")
    rich.add_alternative("<p>Grüße <img src='cid:x'></p>", subtype="html", cte="8bit")
    rich.add_attachment(
        bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="Übersicht.bin"
    )
    large = letter("c-large@one.example")
    large.add_attachment(os.urandom(7_300_000), maintype="image", subtype="png", filename="large.png")
    foreign = letter("d-jürgen@one.example")
    foreign.replace_header("Subject", "Grüße")
    made = [mail.as_bytes() for mail in (plain, rich, large, foreign)]
    assert 9_900_000 < len(made[2]) < 10_485_760
    with submission.smtp() as server:
        assert server.sendmail("whoever@else.example", ["a-plain@one.example", "a-secret@two.example"], made[0]) == {}
        server.sendmail(SENDER, ["b-rich@one.example"], made[1], ["BODY=8BITMIME"])
    with submission.smtp(implicit=True) as server:
        server.sendmail(SENDER, ["c-large@one.example"], made[2])
        server.sendmail(SENDER, ["d-jürgen@one.example"], made[3], ["SMTPUTF8", "BODY=8BITMIME"])
    mails = submission.arrived(5)
    assert [mail.recipients for mail in mails] == [
        ("a-plain@one.example",), ("a-secret@two.example",), ("b-rich@one.example",), ("c-large@one.example",),
        ("d-jürgen@one.example",),
    ]  # fmt: skip
    for mail, original in zip(mails, [made[0], *made], strict=True):
        expected = as_made(original)
        assert without_added(mail.data, expected) == expected
    assert b"secret" not in mails[0].data + mails[1].data, "a blind copy is named nowhere"
    assert Recipient.objects.get(address="a-secret@two.example").type == "bcc"
    assert not Recipient.objects.filter(address="named@one.example").exists(), "the envelope decides"
    assert Send.objects.get(pk=Recipient.objects.get(address="a-plain@one.example").send_id).tags == ["welcome"]


def test_no_auth_in_clear_text_and_none_with_a_wrong_key(submission: Submission) -> None:
    """Lesson S6."""
    with smtplib.SMTP("127.0.0.1", submission.starttls, timeout=20) as server:
        server.ehlo()
        assert "auth" not in server.esmtp_features
        code, text = server.docmd("AUTH", "PLAIN AGFueQB4")
        assert code in (503, 530, 538), text
    submission.token = "0" * 32
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        submission.smtp()
    assert refused.value.smtp_code == 535
    assert b"5.7.8 Invalid API key." in bytes(refused.value.smtp_error)


@pytest.mark.swaks
def test_swaks_submits_and_reads_the_sends_id(submission: Submission) -> None:
    swaks = shutil.which("swaks")
    assert swaks is not None
    said = subprocess.run(
        [swaks, "--server", f"127.0.0.1:{submission.starttls}", "--tls", "--auth", "LOGIN", "--auth-user", "any",
         "--auth-password", submission.token, "--from", SENDER, "--to", "ann@one.example,bob@two.example",
         "--header", "Subject: By swaks", "--header", "X-Relay-Metadata: {\"order\": \"7\"}", "--body", "Hello."],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    send = Send.objects.get()
    assert f"queued as {send.pk}" in said.stdout
    assert (send.subject, send.metadata) == ("By swaks", {"order": "7"})
    assert {mail.recipients for mail in submission.arrived(2)} == {("ann@one.example",), ("bob@two.example",)}


SCRIPT = """
const nodemailer = require(process.argv[1]), options = JSON.parse(process.argv[2])
const send = async (secure, port, mail) => {
  const transport = nodemailer.createTransport({host: '127.0.0.1', port, secure, requireTLS: !secure,
    auth: {user: 'any', pass: options.token}, tls: {rejectUnauthorized: false}})
  const info = await transport.sendMail({from: `App <${options.sender}>`, ...mail})
  transport.close()
  return info
}
(async () => {
  const rich = {to: 'ann@one.example', cc: 'bob@one.example', bcc: 'secret@two.example', subject: 'Grüße ✓',
    text: 'Grüße\\n.\\n', html: '<p>Grüße <img src="cid:logo"></p>', headers: {'X-Relay-Tags': 'node'},
    attachments: [{filename: 'Übersicht.txt', content: 'ä'.repeat(5000)},
      {filename: 'l.png', cid: 'logo', content: Buffer.alloc(3000, 7)}]}
  const once = {to: 'carl@one.example', subject: 'Once', text: 'Hello', html: '<b>Hello</b>',
    headers: {'X-Idempotency-Key': 'k'}}
  const infos = [await send(false, options.starttls, rich)]
  for (const _ of [1, 2]) infos.push(await send(true, options.tls, once))
  console.log(JSON.stringify(infos.map(info => [info.response, info.messageId])))
})().catch(error => { console.error(error); process.exit(1) })
"""


@pytest.mark.node
def test_nodemailer_submits_and_a_second_try_sends_nothing(submission: Submission) -> None:
    package = installed()
    options = {"token": submission.token, "sender": SENDER, "starttls": submission.starttls, "tls": submission.tls}
    said = run_node(SCRIPT, str(package), json.dumps(options))
    [(first, message_id), (once, _), (again, _)] = json.loads(said)
    ids = [re.search(r"queued as (\d+)", reply)[1] for reply in (first, once, again)]  # type: ignore[index]
    assert ids[1] == ids[2] != ids[0]
    assert "already queued" in again
    mails = submission.arrived(3)
    time.sleep(0.3)
    assert len(submission.world.internet.received) == 3
    assert {recipient for mail in mails for recipient in mail.recipients} == {
        "ann@one.example", "bob@one.example", "secret@two.example", "carl@one.example",
    }  # fmt: skip
    rich = Send.objects.get(pk=ids[0])
    assert (rich.subject, rich.tags) == ("Grüße ✓", ["node"])
    assert message_id.encode() in mails[0].data
    assert Recipient.objects.get(address="secret@two.example").type == "bcc"
    assert all(b"secret" not in mail.data for mail in mails)


def run_node(*arguments: Any) -> str:
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None
    said = subprocess.run([node, "-e", *arguments], capture_output=True, text=True, timeout=60, cwd=Path("/"))
    assert said.returncode == 0, said.stderr
    return said.stdout
