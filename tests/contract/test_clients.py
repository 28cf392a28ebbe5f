"""Clients: the one that docs/clients.md has generated, and every curl example of the documentation, against a server."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from projects.api_keys import create_key
from projects.domains import create_domain
from projects.models import Domain, Project
from projects.scopes import SCOPES
from projects.setup import ensure_instance
from projects.staff_keys import NewStaffKey, create_staff_key
from queues.setup import ensure_queues
from sending.models import Recipient, Send, Waiting
from tests.projects.conftest import NOW, PEM
from tests.test_run_web import running

ROOT = Path(__file__).resolve().parents[2]
HERE = "http://127.0.0.1:8000"  # where the documentation's examples find quickstart
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(transactional_db: None) -> str:
    """The key of a project like quickstart's."""
    ensure_queues()
    ensure_instance()
    project = Project.objects.create(name="Demo", send_type="transactional")
    domain = create_domain(project, "demo.test", None, PEM, now=NOW)
    Domain.objects.filter(pk=domain.pk).update(status="active")
    return create_key(project, "Quickstart", SCOPES, ["127.0.0.0/24"])[1]


@pytest.fixture
def staff_key(transactional_db: None) -> str:
    """A key to the staff API."""
    sam = User.objects.create(login="sam@example.test", name="Sam", is_staff=True)
    return create_staff_key(sam, NewStaffKey("Examples"), actor=None)[1]


def test_the_generated_python_client_sends_lists_and_cancels(
    key: str, live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What runs is the example of docs/clients.md itself."""
    generate(live_server.url, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KEY", key)
    example = re.search(r"```python\n(.+?)```", (ROOT / "docs/clients.md").read_text(), re.DOTALL)
    assert example is not None
    here: dict[str, Any] = {}
    try:
        exec(example[1].replace(HERE, live_server.url), here)
    finally:
        here["client"].get_httpx_client().close()
        for name in [name for name in sys.modules if name.partition(".")[0] == "relay_client"]:
            del sys.modules[name]
    send = Send.objects.get(subject="Order 1002")
    assert here["accepted"].id == send.pk
    assert [listed.subject for listed in here["newest"]] == ["Order 1002"]
    assert [found.address for found in here["newest"][0].recipients] == ["bob@inbox.test"]
    assert here["cancelled"].cancelled_recipients == 1
    assert Recipient.objects.get(send_id=send.pk).status == "cancelled"
    assert not Waiting.objects.exists()


def generate(url: str, folder: Path) -> None:
    """A Python client of the served document; the generator leaves out nothing."""
    with urllib.request.urlopen(f"{url}/api/openapi.json") as served:
        (folder / "openapi.json").write_bytes(served.read())
    (folder / "client.yml").write_text("content_type_overrides: {text/csv: application/octet-stream}\npost_hooks: []\n")
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", "openapi.json"]
    command += ["--config", "client.yml", "--meta", "none", "--output-path", "relay_client", "--fail-on-warning"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr


def examples(page: Path) -> list[str]:
    """The curl commands of a page: indented, or between ``` and ```; one that goes on ends its line with a backslash."""
    text = re.sub(r"^```\w*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.findall(r"^(?: {4})?(curl (?:.*\\\n)*(?:[^\n]*'[^']*'\n|.*\n))", text, re.MULTILINE)


@pytest.mark.journey
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_example_of_the_documentation_works(
    key: str, staff_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = Project.objects.get(name="Demo")
    monkeypatch.setenv("SENDS_PER_SECOND", "1000")
    monkeypatch.setenv("REQUESTS_PER_MINUTE", "1000")
    monkeypatch.setenv("PRIVATE_WEBHOOKS", "true")  # as in quickstart
    found = [(page.name, example) for page in sorted((ROOT / "docs").glob("*.md")) for example in examples(page)]
    found = [(page, example) for page, example in found if LIVE not in example]
    assert len(found) > 8
    wrong = []
    variables = {"KEY": key, "STAFF_KEY": staff_key, "PATH": "/usr/bin:/bin"}
    server, work = tmp_path / "server", tmp_path / "work"
    server.mkdir()
    work.mkdir()
    made: dict[str, int] = {}
    with running(server) as web:
        for page, example in found:
            command = example.replace(HERE, f"http://127.0.0.1:{web.port}").replace("curl ", CURL, 1)
            command = command.replace(
                "/projects/2/", f"/projects/{demo.pk}/"
            )  # quickstart's demo project is the second
            command = re.sub(
                r"/(webhooks|mailboxes|replay)/1\b", lambda one: f"/{one[1]}/{made.get(one[1], 1)}", command
            )
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=work,
                env=variables,
                capture_output=True,
                timeout=30,
            )
            if not done.stdout[-3:].startswith(b"2"):
                wrong.append((page, example, done.stdout[-400:], done.stderr))
            remember(command, done.stdout[:-3], made, variables)
    assert wrong == []


def remember(command: str, answer: bytes, made: dict[str, int], variables: dict[str, str]) -> None:
    """What the examples after it name: the number of what it made, and a mailbox's tokens."""
    kind = command.rstrip().rpartition("/")[2]
    if kind in ("webhooks", "mailboxes", "replay") and " -d " in command:
        made[kind] = json.loads(answer)["id"]
    if kind == "tokens":
        told = json.loads(answer)
        variables[told["kind"].upper()] = told["token"]


LIVE = "http://127.0.0.1:8001"  # another process, whose stream has no end
CURL = "curl -sS -w '%{http_code}' "
