"""Settings: nonsense refuses to start with a sentence that names the setting, and the defaults are the safe ones."""

import ipaddress
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.conf import settings as current
from django.core.checks import run_checks

from relay_project import checks, logs

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "postgresql://relay:pass-word@db.example:5432/relay"
SECRET = "a secret that is long enough as it should be"
SHOW = """
import json, django
from django.conf import settings as s
print(json.dumps({"probes": {k: v[0] for k, v in s.PROBES.items()}, "web": s.WEB_BIND[0], "debug": s.DEBUG,
    "proxies": [str(n) for n in s.TRUSTED_PROXIES], "options": s.DATABASES["default"]["OPTIONS"],
    "database": [s.DATABASES["default"][k] for k in ("HOST", "PORT", "NAME", "USER", "PASSWORD")],
    "staff": s.OIDC_FIRST_USER_IS_STAFF, "hosts": s.ALLOWED_HOSTS, "local": s.LOCAL_SIGN_IN,
    "cookie": s.SESSION_COOKIE_SECURE, "old": len(s.SECRET_KEY_FALLBACKS)}))
"""


def start(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Start Python in a clean environment: only what is named here is set."""
    clean = {"PATH": os.environ["PATH"], "RELAY_ENV_FILE": os.devnull, "RELAY_HOME": "/nonexistent"}
    given = {"DATABASE_URL": DATABASE, "APP_SECRET": SECRET, "DJANGO_SETTINGS_MODULE": "relay_project.settings"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean | given | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def shown(**environment: str) -> dict[str, Any]:
    """The settings that these variables lead to."""
    result = start(["-c", SHOW, "show"], **environment)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_SECRET", "short"),
        ("APP_SECRET", ""),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://relay:pass-word@db.example/relay"),
        ("DATABASE_URL", "postgresql://relay:pass-word@db.example:port/relay"),
        ("DEBUG", "maybe"),
        ("SANDBOX_INTERNET", "ture"),
        ("LOG_LEVEL", "loud"),
        ("WEB_URL", "relay.example.com"),
        ("WEB_URL", "https://relay.example.com/path"),
        ("WEB_URL", "http://relay.example.com:99999"),
        ("INSTANCE_DOMAIN", "not a domain"),
        ("WEB_BIND", "8000"),
        ("PROBE_SENDERS", "127.0.0.1:0"),
        ("WEB_WORKERS", "many"),
        ("WEB_THREADS", "0"),
        ("DNS_RESOLVERS", "dns.example"),
        ("SOURCE_IPS", "192.0.2.1,smtp.example.com"),
        ("SOURCE_IPS", "192.0.2.1=eth0"),
        ("TRUSTED_PROXIES", "everyone"),
        ("SMTP_ROUTES", "example.com:25"),
        ("RETRY_SCHEDULE", "now and then"),
        ("WARMUP_PLAN", "50,many"),
        ("MAIL_LIFETIME", "for ever"),
        ("MAIL_LIFETIME", "31h"),  # the retry schedule alone takes longer
        ("OUTGOING_SMTP_PORT", "70000"),
        ("OIDC_ISSUER_URL", "id.example.com"),
        ("OIDC_API_AUDIENCE", "relay-api"),  # without a provider
        ("OIDC_API_ALGORITHMS", "RS256,HS256"),
        ("OIDC_API_ALGORITHMS", "none"),
        ("OIDC_API_SCOPES", "[]"),
        ("OIDC_API_SCOPES", '{"mail": ["sends.write"]}'),
        ("OIDC_API_SCOPES", '{"mail": "king"}'),
        ("OIDC_API_SCOPES", '{"mail": 5}'),
        ("INVITATION_DAYS", "0"),
        ("API_KEY_OVERLAP_HOURS", "never"),
    ],
)
def test_nonsense_refuses_to_start_with_one_sentence_that_names_the_setting(name: str, value: str) -> None:
    result = start(["manage.py", "check"], **{name: value})
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith(f"Relay does not start: {name} ") or f" {name}" in result.stderr
    assert "pass-word" not in result.stderr


def test_oidc_without_its_client_refuses_to_start() -> None:
    result = start(["manage.py", "check"], OIDC_ISSUER_URL="https://id.example.com")
    assert result.returncode == 1
    assert "OIDC_CLIENT_ID and OIDC_CLIENT_SECRET" in result.stderr


def test_the_audience_of_id_tokens_is_refused_for_the_api() -> None:
    """Whoever sees an ID token could use the API with it."""
    oidc = {"OIDC_ISSUER_URL": "https://id.example.com", "OIDC_CLIENT_ID": "relay", "OIDC_CLIENT_SECRET": "s"}
    result = start(["manage.py", "check"], **oidc, OIDC_API_AUDIENCE="relay")
    assert (result.returncode, "OIDC_API_AUDIENCE" in result.stderr) == (1, True)
    assert start(["-c", SHOW, "show"], **oidc, OIDC_API_AUDIENCE="relay-api").returncode == 0


def test_probes_and_web_listen_on_loopback_unless_told_otherwise() -> None:
    """Lesson S1: nobody outside reaches an internal listener by default."""
    defaults = shown()
    assert set(defaults["probes"].values()) == {"127.0.0.1"}
    assert defaults["web"] == "127.0.0.1"
    assert shown(PROBE_WEB="10.0.0.5:9101")["probes"]["web"] == "10.0.0.5"


def test_the_safe_values_are_the_defaults() -> None:
    """Lessons S4 and S8: no proxy is trusted, no debug page is shown, the first OIDC user is not staff."""
    defaults = shown()
    assert defaults["proxies"] == []
    assert defaults["debug"] is False
    assert defaults["staff"] is False
    assert "*" not in defaults["hosts"]
    assert shown(WEB_URL="https://relay.example.com")["cookie"] is True


def test_with_oidc_the_local_sign_in_is_off_unless_asked_for() -> None:
    oidc = {"OIDC_ISSUER_URL": "https://id.example.com", "OIDC_CLIENT_ID": "relay", "OIDC_CLIENT_SECRET": "s"}
    assert shown(**oidc)["local"] is False
    assert shown(**oidc, LOCAL_SIGN_IN="yes")["local"] is True
    assert shown()["local"] is True


def test_tls_to_the_database_is_what_the_url_says() -> None:
    """Lesson S5: sslmode is respected and a password may hold any character that the URL encodes."""
    asked = shown(DATABASE_URL="postgresql://relay:p%40ss%2Fw%23rd@db.example:6432/mail?sslmode=verify-full")
    assert asked["options"]["sslmode"] == "verify-full"
    assert asked["database"] == ["db.example", 6432, "mail", "relay", "p@ss/w#rd"]
    assert "sslmode" not in shown()["options"]


def test_no_code_turns_tls_to_the_database_off() -> None:
    """Lesson S5: sslmode=disable stands nowhere but in the embedded server's own URL, which is this machine's."""
    files = [path for path in ROOT.glob("*/**/*.py") if not {".venv", "tests", ".relay"} & set(path.parts)]
    assert len(files) > 100
    said = [path.name for path in files if "sslmode" in path.read_text() and path.parent.name != "db"]
    assert sorted(said) == ["checks.py", "configuration.py"]  # a check of it, and the sentence that explains it


def test_old_secrets_still_read_sessions() -> None:
    assert shown(APP_SECRETS_OLD=f"{SECRET} older,{SECRET} oldest")["old"] == 2


# --- Settings that make no sense together ----------------------------------------------------------------------------


def complaints() -> dict[str, str]:
    return {str(message.id): message.msg for message in run_checks(tags=[checks.TAG])}


def test_the_settings_of_this_test_run_contradict_nothing() -> None:
    assert complaints() == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"DEBUG": True, "WEB_URL": "https://relay.example.com"}, "relay.E001"),
        ({"WEB_URL": "http://relay.example.com"}, "relay.W001"),
        ({"WEB_URL": "https://mail.example.com", "INSTANCE_DOMAIN": "mail.example.com"}, "relay.W002"),
        ({"WEB_URL": "https://relay.example.com", "INSTANCE_DOMAIN": "relay.test"}, "relay.W003"),
        ({"WEB_URL": "https://relay.example.com", "SANDBOX_INTERNET": True}, "relay.W004"),
        ({"WEB_BIND": ("127.0.0.1", 9101), "PROBES": {"web": ("127.0.0.1", 9101)}}, "relay.E003"),
        ({"SMTP_MX": [("127.0.0.1", 25)], "SMTP_SUBMISSION": [("127.0.0.1", 25)]}, "relay.E003"),
        ({"PROBES": {"web": ("0.0.0.0", 9101)}}, "relay.W005"),
        ({"OIDC_ENABLED": True, "OIDC_ISSUER_URL": "http://id.example.com"}, "relay.E004"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], expected: str, settings: Any) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert expected in complaints()


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "SMTP_PROXIES"])
def test_trusting_everybody_is_refused(settings: Any, name: str) -> None:
    """Lesson S4: with 0.0.0.0/0 every client chooses its own address."""
    setattr(settings, name, [ipaddress.ip_network("0.0.0.0/0")])
    assert "relay.E002" in complaints()


def test_clear_text_to_another_hosts_database_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson S5."""
    database = current.DATABASES["default"]
    monkeypatch.setitem(database, "HOST", "db.example")
    monkeypatch.setitem(database, "OPTIONS", {"sslmode": "prefer"})
    assert "relay.W006" in complaints()
    monkeypatch.setitem(database, "OPTIONS", {"sslmode": "verify-full"})
    assert "relay.W006" not in complaints()


# --- Logs ------------------------------------------------------------------------------------------------------------


def test_logs_are_one_json_line_each_with_ids_and_without_the_request(capfd: pytest.CaptureFixture[str]) -> None:
    """Lesson S9: Django hands its logger the request, whose text holds the query string."""
    script = (
        "import django, logging, structlog; django.setup();"
        "structlog.get_logger('relay').info('attempt_settled', send=1, recipient=2, attempt=3);"
        "extra = {'request': 'GET /x?token=secret-token'};"
        "logging.getLogger('django.request').error('Internal Server Error: %s', '/x', extra=extra);"
        "logging.getLogger('other').warning('plain')"
    )
    result = start(["-c", script, "show"])
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["attempt_settled", "Internal Server Error: /x", "plain"]
    assert (lines[0]["send"], lines[0]["recipient"], lines[0]["attempt"]) == (1, 2, 3)
    assert "secret-token" not in result.stderr


def test_the_request_log_knows_routes_and_not_paths(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Lesson S9: a one-time link's token stands in the path, an address in the query."""
    with caplog.at_level(logging.DEBUG):
        client.get("/api/health?to=ann@example.net")
        client.get("/no/such/page/with-a-token-4711")
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "/api/health" in told
    assert "ann@example.net" not in told
    assert "4711" not in told


def test_configuring_twice_tells_each_line_once(capfd: pytest.CaptureFixture[str]) -> None:
    options = {"level": "INFO", "human": False}
    try:
        logs.configure(options)
        logs.configure(options)
        structlog.get_logger("relay.test").warning("said_once")
        assert capfd.readouterr().err.count("said_once") == 1
    finally:
        logs.configure(current.LOGGING)
