"""What `run_smtp` makes of its settings. Its conversations are in tests/net/smtp_server, with mail in tests/journeys."""

import asyncio
import resource
import socket

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from relay_project.configuration import read_listeners
from relay_project.health import HealthResult
from relay_project.net.files import allow_files
from relay_project.net.smtp_server.model import Service
from sending.inbound.reception import InboundReception
from sending.management.commands.run_smtp import limits, make_server, report_of, smtp_check
from sending.submission.reception import SubmissionReception


async def test_the_server_is_what_the_settings_say_and_health_says_so(settings, tmp_path) -> None:
    """Lesson C18: a busy port is told of, and so is a certificate that cannot be used."""
    squatter = socket.create_server(("127.0.0.1", 0))
    settings.SMTP_MX = [("127.0.0.1", squatter.getsockname()[1])]
    settings.SMTP_SUBMISSION = [("127.0.0.1", 0)]
    settings.SMTP_SUBMISSIONS = []
    settings.SMTP_CERTIFICATE_FILE = str(tmp_path / "chain.pem")
    inbound, submission = InboundReception(), SubmissionReception()
    server = make_server(inbound, submission)
    try:
        await server.start()
        result = smtp_check(server)
        assert (result.name, result.passed) == ("smtp", False)
        assert f"127.0.0.1:{squatter.getsockname()[1]} cannot be listened on" in result.detail
        assert [listener.service for listener in server.listeners] == [Service.MX, Service.SUBMISSION]
        server.listeners[0].trouble = ""
        assert smtp_check(server).passed
        assert smtp_check(server).data == {"connections": 0, "self_signed": True}
        report = report_of(server)
        assert [where.split()[0] for where in report.listeners] == ["mx", "submission"]
        assert (report.self_signed, report.expires_at, report.troubles) == (True, None, [])
        (tmp_path / "chain.pem").write_text("nonsense")
        server.house.certificates.refresh()
        assert "chain.pem cannot be used" in smtp_check(server).detail
    finally:
        squatter.close()
        await server.stop(0)
        await asyncio.gather(inbound.close(), submission.close())
    assert isinstance(result, HealthResult)


def test_limits_are_those_of_the_api(settings) -> None:
    settings.MAX_MESSAGE_BYTES = 12345
    assert limits().message_octets == 12345
    assert limits().unlimited == tuple(settings.SMTP_UNLIMITED_PEERS)


def test_connections_are_reserved_for_customers_where_there_are_ports_for_them(settings) -> None:
    settings.SMTP_CONNECTIONS, settings.SMTP_RESERVED_CONNECTIONS = 500, 100
    settings.SMTP_SUBMISSION, settings.SMTP_SUBMISSIONS = [("127.0.0.1", 587)], []
    assert (limits().connections, limits().reserved_connections) == (500, 100)
    settings.SMTP_SUBMISSION = []
    assert limits().reserved_connections == 0


def test_the_limit_of_open_files_is_raised_and_never_lowered() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
        allow_files(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_addresses_to_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_MX", "0.0.0.0:25,[::]:25")
    assert read_listeners(environ.Env(), "SMTP_MX", "127.0.0.1:1") == [("0.0.0.0", 25), ("::", 25)]
    monkeypatch.setenv("SMTP_MX", "")
    assert read_listeners(environ.Env(), "SMTP_MX", "127.0.0.1:1") == []
    monkeypatch.delenv("SMTP_MX")
    assert read_listeners(environ.Env(), "SMTP_MX", "127.0.0.1:1") == [("127.0.0.1", 1)]


@pytest.mark.parametrize("nonsense", ["25", "localhost:25", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "a,b"])
def test_an_address_that_is_none_refuses_to_start(monkeypatch: pytest.MonkeyPatch, nonsense: str) -> None:
    monkeypatch.setenv("SMTP_MX", nonsense)
    with pytest.raises(ImproperlyConfigured, match=r"SMTP_MX must list addresses with ports"):
        read_listeners(environ.Env(), "SMTP_MX", "127.0.0.1:1")
