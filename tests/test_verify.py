"""`manage.py verify`: what it finds, what it says, how it ends."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.models import DkimKey
from projects.setup import ensure_instance
from relay_project import verify

pytestmark = pytest.mark.django_db


def results_of(*skip: str) -> dict[str, Any]:
    return {result.name: result for result in verify.run(skip)}


class Zone:
    """TXT records of a nameserver on loopback; while it is `broken` it answers SERVFAIL."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.broken = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                wire, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            self.socket.sendto(self._answer(dns.message.from_wire(wire)).to_wire(max_size=4096), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        name = query.question[0].name.to_text(omit_final_dot=True)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.records:
            quoted = " ".join(f'"{self.records[name][at : at + 200]}"' for at in range(0, len(self.records[name]), 200))
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", quoted))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


@pytest.fixture
def zone(settings: Any) -> Iterator[Zone]:
    """The resolver that the product asks."""
    found = Zone()
    settings.DNS_RESOLVERS = [found.socket.getsockname()]
    yield found
    found.socket.close()


@pytest.fixture
def configured(settings: Any, zone: Zone) -> DkimKey:
    """An installation that needs no internet; its web process does not run. The instance domain's key."""
    settings.SOURCE_IPS = ["127.0.0.11"]
    settings.WEB_URL = "http://127.0.0.1:9"
    key = current_key(ensure_instance().domain)
    zone.records[dkim_host(key)] = dkim_txt_value(key)
    return key


def test_each_check_says_what_it_found(configured: DkimKey) -> None:
    found = results_of("web")
    assert {name: result.detail for name, result in found.items() if not result.passed} == {}
    assert "UTF8" in found["database"].detail
    assert found["secrets"].detail == "1 stored, all readable"
    assert found["source_ips"].detail == "127.0.0.11"
    assert found["instance_record"].detail == "default._domainkey.relay.test"


def test_every_failure_says_what_to_mend(configured: DkimKey, zone: Zone, settings: Any) -> None:
    zone.records.clear()
    settings.SOURCE_IPS = ["192.0.2.7", "198.51.100.3=192.0.2.9"]
    found = results_of()
    assert "cannot send from 192.0.2.7, 192.0.2.9" in found["source_ips"].detail
    assert "start run_web" in found["web"].detail
    assert found["dns"].passed  # "there is no such name" is an answer
    assert f"Publish at {dkim_host(configured)} the TXT record: v=DKIM1" in found["instance_record"].detail
    zone.broken = True
    assert "mend DNS_RESOLVERS" in results_of("web")["dns"].detail


def test_a_secret_whose_key_left_the_ring_is_found_before_a_mail_needs_it(configured: DkimKey, settings: Any) -> None:
    """Lesson S9: key rotation."""
    settings.APP_SECRETS = ["another secret of thirty-two characters"]
    detail = results_of("web", "instance_record")["secrets"].detail
    assert detail.startswith("Not readable: 1 of projects.DkimKey.private_key.")
    assert "APP_SECRETS_OLD" in detail


def test_missing_migrations_are_named_and_nothing_is_asked_of_missing_tables(configured: DkimKey) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'contenttypes'")
    found = results_of("web", "dns")
    assert "contenttypes.0001_initial" in found["migrations"].detail
    assert found["secrets"].detail == "Needs the database with its tables."


def test_before_the_first_start_the_missing_key_is_named(zone: Zone) -> None:
    assert "run_housekeeping" in results_of("web", "dns")["instance_record"].detail


def test_contradicting_settings_fail_and_odd_ones_are_mentioned(settings: Any) -> None:
    settings.DEBUG, settings.WEB_URL = True, "https://relay.example.com"
    assert "DEBUG is on" in verify.configuration().detail
    settings.DEBUG, settings.WEB_URL = False, "http://relay.example.com"
    odd = verify.configuration()
    assert odd.passed
    assert "WEB_URL is http" in odd.detail


def test_the_command_tells_line_by_line_and_fails_when_a_check_does(configured: DkimKey) -> None:
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 10 checks failed"):
        call_command("verify", stdout=out)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(verify.NAMES)
    assert lines[1].startswith("✓ database: PostgreSQL")
    assert any(line.startswith("✗ web: ") for line in lines)


def test_json_is_one_object_and_success_ends_quietly(configured: DkimKey) -> None:
    out = io.StringIO()
    call_command("verify", "--json", "--skip", "web", stdout=out)
    told = json.loads(out.getvalue())
    assert told["status"] == "ok"
    assert told["checks"]["database"]["passed"] is True


def test_no_key_is_ever_printed(configured: DkimKey) -> None:
    """Lesson S9: the private key and its token stay where they are."""
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("verify", stdout=out)
    assert configured.private_key.splitlines()[1] not in out.getvalue()
