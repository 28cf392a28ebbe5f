"""Talk: one job, from its route to an outcome. Only the network is touched here: no database, no ORM, no clock of rules.

In: a claimed job and the source IP that serves it. Out: an AttemptOutcome for settle, or a GiveBack when nothing was
dialled. Hosts are tried in order; a connection lost after the final dot never leads straight to the next host (RFC 1047).
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ips.senders import ServedIp
from relay_project.mail.classify import SERVICE_CLOSING, Outcome, Verdict, classify, is_throttle
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from relay_project.mail.srs import rewrite
from relay_project.mail.verp import make_reverse_path
from relay_project.net.conversation import (
    ConversationFailed,
    Endpoint,
    Envelope,
    Step,
    TlsRequirement,
    Transaction,
)
from relay_project.net.smtp import SmtpConnection
from sending.deliver.gate import Gate, Refusal
from sending.deliver.load import Job, Target
from sending.deliver.outcome import (
    DOMAIN_REMOVED,
    DOMAIN_STOPPED,
    SUPPRESSED,
    AttemptOutcome,
    GiveBack,
    RecipientOutcome,
)
from sending.deliver.policy_book import DomainTls, PolicyPending
from sending.deliver.pool import Line, Pool
from sending.deliver.prepare import Prepared, Preparer
from sending.deliver.rehearse import rehearse
from sending.deliver.route import Route, Router, Unroutable
from sending.deliver.shaper import Shaper
from sending.deliver.tally import count_transaction
from sending.deliver.tls_ladder import Demand, HostRefused, TlsLadder, TlsPolicy

POLICY_RETRY_SECONDS = 2.0  # a job whose domain's TLS policy is still being asked for comes back after this
MAX_ENDPOINTS = 8  # addresses tried in one attempt; a site with more dead ones is tried again by schedule
MIN_TALK_SECONDS = 30.0  # with less than this left of its deadline a job is given back before MAIL FROM


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every job of a sender shares."""

    router: Router
    pool: Pool
    shaper: Shaper
    preparer: Preparer
    return_path_keys: Sequence[bytes]
    conversation_seconds: float
    ladder: TlsLadder
    chunking: bool = True
    stopped_projects: set[int] = field(default_factory=set)  # of which nothing may leave, as of the last beat
    without_chunking: set[str] = field(default_factory=set)  # addresses that offer it and do not understand BDAT


@dataclass(slots=True)
class Talk:
    """One attempt under way."""

    job: Job
    ip: ServedIp
    around: Surroundings
    is_dialled: bool = False  # from here on the attempt counts and cannot be given back
    conversations: dict[str, Any] = field(default_factory=dict)
    responded_host: str | None = None
    route: Route | None = None
    rule: DomainTls | None = None
    prepared: Prepared | None = None
    connection: SmtpConnection | None = None
    tls: dict[str, Any] | None = None
    live: tuple[Target, ...] = field(init=False)  # recipients that were not suppressed since they were accepted
    _started: float = field(default_factory=time.monotonic)
    _gate: Gate | None = None
    _throttle: str = ""  # what the site said when it asked us to slow down

    def __post_init__(self) -> None:
        """Who the mail goes to."""
        self.live = tuple([target for target in self.job.targets if not target.is_suppressed])

    @property
    def deadline(self) -> float:
        """Counts from the claim, so that the lease always covers it."""
        return self.job.claimed_at + self.around.conversation_seconds

    async def run(self) -> AttemptOutcome | GiveBack:
        """The whole attempt; raises only what nobody foresaw."""
        if self.job.project_id in self.around.stopped_projects:
            return GiveBack(self.job)
        if not self.live:
            return self._outcome([])
        if not self.job.is_signable:
            return self._undialled(
                DOMAIN_REMOVED, "the sending domain was removed from the project before this mail left"
            )
        if self.job.is_test and not self.job.stopped:
            return self._rehearsed()
        if self.job.stopped:
            return self._undialled(DOMAIN_STOPPED, f"the sending domain may not send (status: {self.job.stopped})")
        try:
            self.route = await self.around.router.route(self.job.domain)
            self.rule = await self.around.ladder.rule(self.job.domain, self.route)
            return await self._through_gate(self.route)
        except Unroutable as error:
            return self._all_alike(Stage.ROUTE, None, error.failure)
        except PolicyPending:
            return GiveBack(self.job, POLICY_RETRY_SECONDS)

    def _rehearsed(self) -> AttemptOutcome:
        """A test key's mail: no route, no gate and no connection; `is_dialled` stays False, so nothing counts it."""
        if self.job.stored is None:
            raise LookupError(self.job.trouble)
        started, host = datetime.now(UTC), f"simulator.{self.job.instance_domain}"
        rehearsal = rehearse(self.live, host, self.ip.helo_name, self._reverse_path)
        self._record(Endpoint(host, ""), started, rehearsal.steps, rehearsal.failure)
        self.responded_host = host
        return self._outcome(rehearsal.results, rehearsal.failure)

    @property
    def _reverse_path(self) -> str:
        job, keys = self.job, self.around.return_path_keys
        if job.forwarded_from is not None:
            today = datetime.now(UTC).date()
            made = rewrite(job.forwarded_from, job.send_id, job.return_path, keys, today) if job.forwarded_from else ""
            if made is not None:
                return made
        return make_reverse_path(job.send_id, job.attempt_id, job.return_path, keys)

    def _undialled(self, verdict: Verdict, text: str) -> AttemptOutcome:
        """Decided by us: unsigned mail would fail DMARC at the receiver, and a stopped domain's mail waits for its turn."""
        failure = NetworkFailure(FailureKind.PROTOCOL, text)
        return self._outcome([RecipientOutcome(target, verdict, None, failure) for target in self.live], failure)

    async def _through_gate(self, route: Route) -> AttemptOutcome | GiveBack:
        """Nothing costly is done for a job that may not go to its site now."""
        gate = self._gate = self.around.shaper.gate(self.ip, self.job.domain, route.site)
        key = self.job.attempt_id
        if refusal := gate.enter(key, len(self.job.targets), time.monotonic()):
            return self._held(gate, refusal)
        try:
            self.prepared = await self.around.preparer.prepared(self.job)
            return await self._with_connection(route, gate)
        finally:
            gate.leave(key, time.monotonic())

    async def _with_connection(self, route: Route, gate: Gate) -> AttemptOutcome | GiveBack:
        latest = self.deadline - MIN_TALK_SECONDS
        if not await gate.connection(self.job.attempt_id, self.job.priority, latest, time.monotonic()):
            return self._held(gate, gate.refusal(time.monotonic()))
        pause = gate.pace(self.job.attempt_id, time.monotonic())
        if pause is None:
            return self._held(gate, gate.refusal(time.monotonic()))
        if pause:
            await asyncio.sleep(pause)
        now = time.monotonic()
        if gate.is_shut(now):
            return self._held(gate, gate.refusal(now))
        if now > latest or self.job.project_id in self.around.stopped_projects:
            return GiveBack(self.job)
        self.is_dialled = True
        gate.began(now)
        outcome = await self._try_endpoints(route)
        self._tell(gate, now)
        return outcome

    def _held(self, gate: Gate, refusal: Refusal) -> GiveBack:
        return GiveBack(self.job, refusal.seconds, gate.site, refusal.reason)

    def _tell(self, gate: Gate, began_at: float) -> None:
        """What the site answered, as far as it is about our pace."""
        if self._throttle:
            self.around.shaper.throttled(self.ip, gate, self._throttle, began_at)
        elif self.responded_host is not None:
            gate.went(began_at, time.monotonic())

    @property
    def _most_messages(self) -> int:
        """Of one connection to the site."""
        return self._gate.messages_per_connection if self._gate is not None else 1

    def _heed(self, stage: Stage, reply: Reply | None, failure: NetworkFailure | None) -> None:
        if not self._throttle and is_throttle(stage, reply, failure):
            self._throttle = str(reply) if reply is not None else failure.text if failure is not None else "no reply"

    async def _try_endpoints(self, route: Route) -> AttemptOutcome | GiveBack:
        trouble: ConversationFailed | None = None
        tried, refused, is_elsewhere = 0, "", False
        async for endpoint in self.around.router.endpoints(route):
            if not _same_family(endpoint.address, self.ip.bind_address):
                is_elsewhere = True
                continue
            try:
                demand = await self._demand(route, endpoint)
            except HostRefused as refusal:
                refused = str(refusal)
                self._note_unmet(refusal.policy)
                continue
            tried += 1
            try:
                transaction = await self._deliver(endpoint, demand)
            except ConversationFailed as error:
                trouble = error if trouble is None or error.reply is not None or trouble.reply is None else trouble
                if tried >= MAX_ENDPOINTS or time.monotonic() > self.deadline - MIN_TALK_SECONDS:
                    break
                continue
            return self._of_transaction(transaction)
        if trouble is not None:
            return self._all_alike(trouble.stage, trouble.reply, trouble.failure)
        if is_elsewhere and not refused and self.ip.other_family is not None:
            return GiveBack(self.job, move_to=self.ip.other_family)
        if refused:
            return self._all_alike(Stage.STARTTLS, None, NetworkFailure(FailureKind.TLS, refused))
        text = f"none of the addresses of {', '.join(route.hosts)} can be reached from {self.ip.address}"
        return self._all_alike(Stage.ROUTE, None, NetworkFailure(FailureKind.CONNECT, text))

    async def _demand(self, route: Route, endpoint: Endpoint) -> Demand:
        assert self.rule is not None, "route comes first"
        return await self.around.ladder.demand(self.rule, self.job.domain, route, endpoint)

    async def _deliver(self, endpoint: Endpoint, demand: Demand) -> Transaction:
        """One transaction with one host; raises ConversationFailed when the next host may be tried."""
        line = Line(self.ip.bind_address, endpoint.address, endpoint.port)
        transaction = await self._reused(line, demand)
        if transaction is None:
            await self._leave_room(line)
            connection = await self._open_or_note(endpoint, demand)
            transaction = await self._transact(connection, line, demand, demand, connection.opening_steps)
        if transaction.failure is not None and _is_before_message(transaction):
            failed = next(iter(transaction.results.values()))
            raise ConversationFailed(failed.stage, failed.reply, transaction.failure, transaction.steps)
        return transaction

    async def _leave_room(self, line: Line) -> None:
        """A site counts idle connections, to whichever of its hosts, with the others: old ones go before a new one comes."""
        if self._gate is not None:
            self._gate.lines.add(line)
            await self.around.pool.trim(self._gate.lines, self._gate.spare)

    async def _reused(self, line: Line, demand: Demand) -> Transaction | None:
        """A transaction on an idle connection; None when there is none, or it was closed, or was told to close (421)."""
        found = self.around.pool.reuse(line, demand)
        if found is None:
            return None
        transaction = await self._transact(found[0], line, demand, found[1], ())
        return None if transaction.stale or _is_told_to_close(transaction) else transaction

    async def _open_or_note(self, endpoint: Endpoint, demand: Demand) -> SmtpConnection:
        try:
            return await self._open(endpoint, demand)
        except ConversationFailed:
            if demand.is_strict:
                self._note_unmet(demand.policy)
            raise

    async def _open(self, endpoint: Endpoint, demand: Demand) -> SmtpConnection:
        """A new connection; where opportunistic STARTTLS itself fails, once more in clear text (RFC 7435)."""
        try:
            return await self._connect(endpoint, demand, demand.requirement)
        except ConversationFailed as error:
            if error.stage is not Stage.STARTTLS or demand.requirement is not TlsRequirement.OPPORTUNISTIC:
                count_transaction(demand.policy.value, "failed")
                raise
        return await self._connect(endpoint, demand, TlsRequirement.NONE)

    async def _connect(self, endpoint: Endpoint, demand: Demand, requirement: TlsRequirement) -> SmtpConnection:
        if demand.tlsa and demand.host != endpoint.host:  # an alias: its records are for where it leads (RFC 7672 §8.1)
            endpoint = Endpoint(demand.host, endpoint.address, endpoint.port)
        started = datetime.now(UTC)
        try:
            return await SmtpConnection.open(
                endpoint,
                source=self.ip.bind_address,
                helo_name=self.ip.helo_name,
                tls=requirement,
                deadline=self.deadline,
                trust=self.around.ladder.trust,
                vouch=demand.vouch,
                chunking=self.around.chunking and endpoint.address not in self.around.without_chunking,
            )
        except ConversationFailed as error:
            if error.reply is not None:
                self.responded_host = endpoint.host
            self._record(endpoint, started, error.steps, error.failure)
            raise

    async def _transact(
        self, connection: SmtpConnection, line: Line, demand: Demand, opened_under: Demand, opening: Sequence[Step]
    ) -> Transaction:
        assert self.prepared is not None
        envelope = Envelope(
            reverse_path=self._reverse_path,
            recipients=tuple([target.address for target in self.live]),
            smtputf8=self.prepared.smtputf8,
            eight_bit=self.prepared.eight_bit,
            as_it_came=self.job.forwarded_from is not None,
        )
        self.connection = connection
        try:
            transaction = await connection.deliver(envelope, self.prepared.message, self.deadline)
        finally:
            self.connection = None
        started = connection.opened_at if opening else transaction.started_at
        self._record(connection.endpoint, started, (*opening, *transaction.steps), transaction.failure)
        self.responded_host = connection.endpoint.host
        self.tls = self._tls_record(connection, demand)
        if connection.refuses_chunks:
            self.around.without_chunking.add(line.address)
        if not self.around.pool.park(line, connection, opened_under, self._most_messages):
            await connection.close()
        return transaction

    def _tls_record(self, connection: SmtpConnection, demand: Demand) -> dict[str, Any] | None:
        """The TLS session and what asked for it; None for clear text. A policy in testing is named and changes nothing."""
        used = connection.tls
        count_transaction(demand.policy.value, used.version if used else "clear")
        if used is None:
            return None
        return self._tls_words(demand.policy, used.version, used.cipher, used.verified)

    def _note_unmet(self, policy: TlsPolicy) -> None:
        """Who demanded a session that did not come about; one with another host of the attempt says more."""
        self.tls = self.tls or self._tls_words(policy, None, None, False)

    def _tls_words(self, policy: TlsPolicy, version: str | None, cipher: str | None, verified: bool) -> dict[str, Any]:
        record = {"version": version, "cipher": cipher, "verified": verified, "policy": policy.value}
        if self.rule is not None and self.rule.sts is not None:
            record["mta_sts"] = self.rule.sts.mode.value
        return record

    def _record(
        self, endpoint: Endpoint, started: datetime, steps: Sequence[Step], failure: NetworkFailure | None
    ) -> None:
        host = endpoint.host if endpoint.host not in self.conversations else f"{endpoint.host} [{endpoint.address}]"
        self.conversations[host] = {
            "start_time": started.isoformat(),
            "duration_ms": round(sum([step.duration_ms for step in steps])),
            "network_error": failure.text if failure else "",
            "address": endpoint.address,
            "steps": [step.as_record() for step in steps],
        }

    def _of_transaction(self, transaction: Transaction) -> AttemptOutcome:
        outcomes = []
        for target in self.live:
            result = transaction.results[target.address]
            verdict = classify(result.stage, result.reply, result.failure, len(self.live))
            if verdict.outcome is not Outcome.ACCEPTED:
                self._heed(result.stage, result.reply, result.failure)
            outcomes.append(RecipientOutcome(target, verdict, result.reply, result.failure))
        return self._outcome(outcomes, transaction.failure)

    def _all_alike(self, stage: Stage, reply: Reply | None, failure: NetworkFailure | None) -> AttemptOutcome:
        verdict = classify(stage, reply, failure, len(self.live))
        self._heed(stage, reply, failure)
        return self._outcome([RecipientOutcome(target, verdict, reply, failure) for target in self.live], failure)

    def _outcome(self, outcomes: list[RecipientOutcome], failure: NetworkFailure | None = None) -> AttemptOutcome:
        if len(self.live) < len(self.job.targets):
            outcomes += [RecipientOutcome(target, SUPPRESSED) for target in self.job.targets if target.is_suppressed]
        return AttemptOutcome(
            job=self.job,
            recipients=tuple(outcomes),
            site=self.route.site if self.route else "",
            resolved_hosts=self.route.hosts if self.route else (),
            responded_host=self.responded_host,
            conversations=self.conversations,
            tls=self.tls,
            network_error=failure.text if failure else "",
            duration_ms=round((time.monotonic() - self._started) * 1000),
            signature=self.prepared.signature if self.prepared and self.is_dialled else None,
            is_dialled=self.is_dialled,
            by_hour=self._gate is not None and self._gate.is_counted_by_hour,
        )


def _is_before_message(transaction: Transaction) -> bool:
    """Nothing of the message's content had gone out: another host may be tried at once."""
    return all(result.stage is not Stage.DATA_CLOSE and result.reply is None for result in transaction.results.values())


def _is_told_to_close(transaction: Transaction) -> bool:
    """A connection that was used before may end with a 421 to MAIL: it has carried enough. That is no throttle."""
    return all(
        result.stage is Stage.MAIL and result.reply is not None and result.reply.code == SERVICE_CLOSING
        for result in transaction.results.values()
    )


def _same_family(address: str, other: str) -> bool:
    return (":" in address) is (":" in other)  # both are addresses; to parse them takes 8 µs
