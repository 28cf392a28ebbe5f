"""sending.deliver.policy_book: what mail is told about a domain's policy, and how long it waits for that."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import InterfaceError

from ips.tls_policies import Changes, KnownPolicy
from relay_project.mail.mta_sts import Mode, Policy
from relay_project.net.conversation import TlsRequirement
from relay_project.net.resolver import NameNotFound, ResolverFailure
from relay_project.net.sts_fetch import FetchFailed
from sending.deliver import policy_book
from sending.deliver.policy_book import PolicyBook, PolicyPending

POLICY = Policy(Mode.ENFORCE, ("mx.bank.test",), 86_400)
NEWER = Policy(Mode.TESTING, ("mx.bank.test",), 86_400)


class World:
    """DNS, the web and the database, as a book sees them."""

    def __init__(self) -> None:
        self.records: dict[str, list[str] | Exception] = {}
        self.served: dict[str, Policy | Exception] = {}
        self.changes = Changes((), {})
        self.fetches = 0
        self.questions = 0
        self.is_database_away = False
        self.gate: asyncio.Event | None = None
        self.book = PolicyBook(self, self.fetch, self.in_database)  # type: ignore[arg-type]

    async def txt(self, name: str) -> list[str]:
        self.questions += 1
        found = self.records.get(name, NameNotFound(name, "no", 60))
        if isinstance(found, Exception):
            raise found
        return found

    async def fetch(self, domain: str) -> Policy:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        found = self.served.get(domain, FetchFailed("404"))
        if isinstance(found, Exception):
            raise found
        return found

    async def in_database(self, work: Callable[[], Any]) -> Any:
        if self.is_database_away:
            raise InterfaceError("gone")
        changes, self.changes = self.changes, Changes((), self.changes.overrides)
        return changes

    def keeps(self, policy: Policy = POLICY, policy_id: str = "1", expires: timedelta = timedelta(days=1)) -> None:
        self.changes = Changes((KnownPolicy("bank.test", policy_id, policy, datetime.now(UTC) + expires),), {})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(policy_book.tls_policies, "store", None)
    return World()


async def ready(world: World) -> PolicyBook:
    await world.book.read()
    return world.book


async def test_a_domain_without_a_record_costs_one_question_a_minute(world: World) -> None:
    book = await ready(world)
    for _ in range(3):
        assert (await book.of("plain.test")).sts is None
    assert (world.questions, world.fetches) == (1, 0)
    assert book.known("plain.test") is not None


async def test_a_new_policy_is_fetched_once_for_all_mail_that_waits(world: World) -> None:
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=1"]
    world.served["bank.test"] = POLICY
    book = await ready(world)
    found = await asyncio.gather(*(book.of("bank.test") for _ in range(5)))
    assert {one.sts for one in found} == {POLICY}
    assert (world.questions, world.fetches) == (1, 1)


async def test_a_kept_policy_holds_while_its_id_does(world: World) -> None:
    world.keeps()
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=1"]
    assert (await (await ready(world)).of("bank.test")).sts == POLICY
    assert world.fetches == 0


async def test_a_new_id_brings_a_new_policy(world: World) -> None:
    world.keeps()
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=2"]
    world.served["bank.test"] = NEWER
    assert (await (await ready(world)).of("bank.test")).sts == NEWER


@pytest.mark.parametrize(
    "record", [NameNotFound("x", "no", 60), ResolverFailure("x", "SERVFAIL", 3), [], ["v=STSv1; id=2"]]
)
async def test_a_kept_policy_outlives_whatever_happens_to_its_record_and_its_host(
    world: World, record: list[str] | Exception
) -> None:
    """RFC 8461 §5.1: otherwise whoever can disturb DNS or HTTPS takes the protection away."""
    world.keeps()
    world.records["_mta-sts.bank.test"] = record
    assert (await (await ready(world)).of("bank.test")).sts == POLICY


async def test_an_expired_policy_holds_no_longer(world: World) -> None:
    world.keeps(expires=timedelta(seconds=-1))
    assert (await (await ready(world)).of("bank.test")).sts is None


async def test_a_policy_that_cannot_be_fetched_is_not_asked_for_with_every_mail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_book, "FRESH_SECONDS", 0.0)
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=1"]
    book = await ready(world)
    for _ in range(3):
        assert (await book.of("bank.test")).sts is None
    assert world.fetches == 1


async def test_mail_does_not_wait_for_a_policy_host_that_dawdles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_book, "PATIENCE_SECONDS", 0.01)
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=1"]
    world.served["bank.test"] = POLICY
    world.gate = asyncio.Event()
    book = await ready(world)
    with pytest.raises(PolicyPending):
        await book.of("bank.test")
    world.gate.set()
    assert (await book.of("bank.test")).sts == POLICY
    assert world.fetches == 1
    await book.aclose()


async def test_a_strangers_thousand_dawdling_domains_delay_no_other_mail_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All fetches of a sender share a few places: mail to whoever stood behind them waited for hours."""
    monkeypatch.setattr(policy_book, "SLOT_SECONDS", 0.05)
    names = [f"d{number}.evil.test" for number in range(policy_book.MAX_FETCHES)]
    world.records = {f"_mta-sts.{name}": ["v=STSv1; id=1"] for name in (*names, "bank.test")}
    world.keeps(policy_id="0")
    world.gate = asyncio.Event()
    book = await ready(world)
    evil = [asyncio.create_task(book.of(name)) for name in names]
    await asyncio.sleep(0)
    assert (await book.of("bank.test")).sts == POLICY, "what was fetched before holds"
    world.gate.set()
    await asyncio.gather(*evil)
    assert world.fetches == len(names)


async def test_nothing_leaves_before_the_database_has_told_what_must_be_held_to(world: World) -> None:
    world.is_database_away = True
    book = await ready(world)
    with pytest.raises(PolicyPending):
        await book.of("bank.test")
    world.is_database_away = False
    await book.read()
    assert (await book.of("bank.test")).sts is None


async def test_what_staff_decide_comes_before_any_question(world: World) -> None:
    world.changes = Changes((), {"bank.test": "verified", "*": "encrypted"})
    book = await ready(world)
    bank = await book.of("bank.test")
    other = await book.of("other.test")
    assert (bank.override, bank.default) == (TlsRequirement.VERIFIED, TlsRequirement.ENCRYPTED)
    assert (other.override, other.default) == (None, TlsRequirement.ENCRYPTED)
    assert world.questions == 1
    assert book.without_sts("bank.test").override is TlsRequirement.VERIFIED


async def test_switched_off_nothing_is_asked(world: World) -> None:
    book = await ready(world)
    book.is_enabled = False
    assert (await book.of("bank.test")).sts is None
    assert world.questions == 0


async def test_what_another_sender_fetched_is_taken_over(world: World) -> None:
    world.records["_mta-sts.bank.test"] = ["v=STSv1; id=1"]
    book = await ready(world)
    assert (await book.of("bank.test")).sts is None
    world.keeps()
    await book.read()
    assert (await book.of("bank.test")).sts == POLICY
