"""ips.tls_policies and their refreshing: what is kept, for how long, and what staff may decide."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from ips import refresh_policies, tls_policies
from ips.health import tls_policies as health_check
from ips.models import MtaStsPolicy, TlsOverride, TlsRequirement
from ips.tls_policies import forget, mark_used, read_changes, remove_override, set_override, store, store_failure
from relay_project.mail.mta_sts import Mode, Policy
from relay_project.net.resolver import Resolver
from relay_project.net.sts_fetch import FetchFailed
from relay_project.sandbox.dns import SandboxDns

NOW = timezone.now()
DAY = timedelta(days=1)
POLICY = Policy(Mode.ENFORCE, ("mx.bank.test", "*.bank.test"), 7 * 86_400)

pytestmark = pytest.mark.django_db


def row(domain: str = "bank.test") -> MtaStsPolicy:
    return MtaStsPolicy.objects.get(domain=domain)


def test_a_policy_is_kept_until_it_expires() -> None:
    store("bank.test", "1", POLICY, NOW)
    [found] = read_changes(None).policies
    assert (found.policy_id, found.policy) == ("1", POLICY)
    assert found.valid(NOW + 6 * DAY) == POLICY
    assert found.valid(NOW + 8 * DAY) is None


def test_a_failed_refresh_keeps_the_old_policy_and_says_since_when_it_fails() -> None:
    """RFC 8461 §5.1."""
    store("bank.test", "1", POLICY, NOW)
    store_failure("bank.test", "mta-sts.bank.test: \x00 gone", NOW + DAY)
    store_failure("bank.test", "still gone", NOW + 2 * DAY)
    [found] = read_changes(None).policies
    assert found.valid(NOW + 2 * DAY) == POLICY
    assert (row().error, row().failing_since) == ("still gone", NOW + DAY)
    store("bank.test", "2", POLICY, NOW + 3 * DAY)
    assert (row().error, row().failing_since, row().policy_id) == ("", None, "2")


def test_a_domain_whose_policy_was_never_had_is_noted_and_holds_nobody() -> None:
    store_failure("broken.test", "404", NOW)
    [found] = read_changes(None).policies
    assert found.policy is None
    assert found.valid(NOW) is None


def test_senders_read_what_changed_since_they_last_looked() -> None:
    store("old.test", "1", POLICY, NOW - DAY)
    store("new.test", "1", POLICY, NOW)
    set_override("*", TlsRequirement.ENCRYPTED, reason="law", actor=None, now=NOW)
    changes = read_changes(NOW)
    assert [policy.domain for policy in changes.policies] == ["new.test"]
    assert changes.overrides == {"*": "encrypted"}


def test_what_nobody_uses_is_forgotten_after_its_end() -> None:
    store("used.test", "1", POLICY, NOW - 40 * DAY)
    store("unused.test", "1", POLICY, NOW - 40 * DAY)
    store_failure("broken.test", "404", NOW - 40 * DAY)
    assert mark_used({"used.test"}, NOW) == 1
    assert mark_used({"used.test"}, NOW) == 0, "once a day"
    forget(NOW)
    assert [policy.domain for policy in MtaStsPolicy.objects.all()] == ["used.test"]


def test_an_override_names_a_domain_or_all_and_stands_in_the_audit_log() -> None:
    override = set_override("Bank.TEST.", TlsRequirement.NONE, reason="its STARTTLS is broken", actor=None, now=NOW)
    assert override.domain == "bank.test"
    again = set_override("bank.test", TlsRequirement.VERIFIED, reason="mended", actor=None, now=NOW)
    assert again.pk == override.pk
    remove_override(again, actor=None)
    assert not TlsOverride.objects.exists()
    actions = list(AuditEntry.objects.order_by("id").values_list("action", "detail__requirement"))
    assert actions == [
        ("tls_override.set", "none"),
        ("tls_override.set", "verified"),
        ("tls_override.removed", "verified"),
    ]
    for nonsense in ("", "*.bank.test", "no domain", "localhost"):
        with pytest.raises(ValueError, match="neither a domain nor"):
            set_override(nonsense, TlsRequirement.NONE, reason="", actor=None, now=NOW)


# Refreshing


@pytest.fixture
def texts(settings: Any) -> Iterator[dict[str, list[str]]]:
    """TXT records of the world, by name."""
    loop, records = asyncio.new_event_loop(), {}
    import threading

    dns = SandboxDns(txt=lambda name: records.get(name, []))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(dns.start(), loop).result(5)
    settings.DNS_RESOLVERS = [(dns.address, dns.port)]
    yield records
    asyncio.run_coroutine_threadsafe(dns.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


class Web:
    """Policies by domain, in place of HTTPS."""

    def __init__(self, **served: Policy) -> None:
        self.served = {domain.replace("_", "."): policy for domain, policy in served.items()}

    def fetcher(self, resolver: Resolver) -> Any:
        async def fetch(domain: str) -> Policy:
            if domain not in self.served:
                raise FetchFailed(f"mta-sts.{domain}: 404")
            return self.served[domain]

        return fetch


def test_policies_in_use_are_refreshed_once_a_day(
    texts: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for domain in ("bank.test", "gone.test", "withdrawn.test", "fresh.test", "unused.test"):
        texts[f"_mta-sts.{domain}"] = ["v=STSv1; id=2"]
        store(domain, "1", POLICY, NOW - (timedelta(hours=2) if domain == "fresh.test" else 2 * DAY))
    del texts["_mta-sts.withdrawn.test"]
    MtaStsPolicy.objects.filter(domain="unused.test").update(used_at=NOW - 60 * DAY)
    newer = Policy(Mode.TESTING, ("mx2.bank.test",), 86_400)
    monkeypatch.setattr(refresh_policies, "fetcher", Web(bank_test=newer, fresh_test=newer, unused_test=newer).fetcher)
    assert refresh_policies.refresh(NOW) == (1, 1)
    assert (row().mode, row().policy_id, row().mx) == ("testing", "2", ["mx2.bank.test"])
    assert row("gone.test").error == "mta-sts.gone.test: 404"
    for untouched in ("withdrawn.test", "fresh.test", "unused.test"):
        assert (row(untouched).policy_id, row(untouched).error) == ("1", "")
    settings.MTA_STS = False
    assert refresh_policies.refresh(NOW + 3 * DAY) == (0, 0)


# Health


def test_health_complains_when_no_policy_can_be_fetched_for_days() -> None:
    for number in range(3):
        store_failure(f"bank{number}.test", "no answer within 10 s", NOW - 2 * DAY)
    assert not health_check().passed
    store("other.test", "1", POLICY, NOW)
    assert health_check().passed, "then it is their trouble"


def test_the_admins_words_are_those_of_the_network() -> None:
    from relay_project.net.conversation import TlsRequirement as OfTheNetwork

    assert TlsRequirement.values == [requirement.value for requirement in OfTheNetwork]
    assert tls_policies.ANY_DOMAIN == "*"
