"""Talk: one job, from its route to an outcome. Only the network is touched here: no database, no ORM, no clock of rules.

In: a claimed job and the source IP that serves it. Out: an AttemptOutcome for settle, or a GiveBack when nothing was
dialled. Hosts are tried in order; a connection lost after the final dot never leads straight to the next host (RFC 1047).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ips.senders import ServedIp
from relay_project.mail.classify import Verdict, classify
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
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
from sending.deliver.load import Job, Target
from sending.deliver.outcome import (
    DOMAIN_REMOVED,
    DOMAIN_STOPPED,
    SUPPRESSED,
    AttemptOutcome,
    GiveBack,
    RecipientOutcome,
)
from sending.deliver.pool import Line, Pool, SlotTimeout
from sending.deliver.prepare import Prepared, Preparer
from sending.deliver.route import Route, Router, Unroutable

MAX_ENDPOINTS = 8  # addresses tried in one attempt; a site with more dead ones is tried again by schedule
SLOT_RETRY_SECONDS = 5.0  # a job that got no connection to its site within its time comes back after this
MIN_TALK_SECONDS = 30.0  # with less than this left of its deadline a job is given back before MAIL FROM


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every job of a sender shares."""

    router: Router
    pool: Pool
    preparer: Preparer
    return_path_keys: Sequence[bytes]
    conversation_seconds: float
    tls: TlsRequirement = TlsRequirement.OPPORTUNISTIC


@dataclass(slots=True)
class Talk:
    """One attempt under way."""

    job: Job
    ip: ServedIp
    around: Surroundings
    is_dialled: bool = False  # from here on the attempt counts and cannot be given back
    held_for: str = ""  # the slow site it was taken off the road for
    conversations: dict[str, Any] = field(default_factory=dict)
    responded_host: str | None = None
    route: Route | None = None
    prepared: Prepared | None = None
    connection: SmtpConnection | None = None
    tls: dict[str, Any] | None = None
    live: tuple[Target, ...] = field(init=False)  # recipients that were not suppressed since they were accepted
    _started: float = field(default_factory=time.monotonic)
    _slot_wanted: float = 0.0

    def __post_init__(self) -> None:
        """Who the mail goes to."""
        self.live = tuple([target for target in self.job.targets if not target.is_suppressed])

    @property
    def deadline(self) -> float:
        """Counts from the claim, so that the lease always covers it."""
        return self.job.claimed_at + self.around.conversation_seconds

    @property
    def slot_seconds(self) -> float:
        """How long it has waited for a connection to its site; signing and our own slowness do not count."""
        return time.monotonic() - self._slot_wanted if self._slot_wanted and not self.is_dialled else 0.0

    async def run(self) -> AttemptOutcome | GiveBack:
        """The whole attempt; raises only what nobody foresaw."""
        if not self.live:
            return self._outcome([])
        if not self.job.is_signable:
            return self._undialled(
                DOMAIN_REMOVED, "the sending domain was removed from the project before this mail left"
            )
        if self.job.stopped:
            return self._undialled(DOMAIN_STOPPED, f"the sending domain may not send (status: {self.job.stopped})")
        try:
            self.route = await self.around.router.route(self.job.domain)
            self.prepared = await self.around.preparer.prepared(self.job)
            return await self._with_slot(self.route)
        except Unroutable as error:
            return self._all_alike(Stage.ROUTE, None, error.failure)

    def _undialled(self, verdict: Verdict, text: str) -> AttemptOutcome:
        """Decided by us: unsigned mail would fail DMARC at the receiver, and a stopped domain's mail waits for its turn."""
        failure = NetworkFailure(FailureKind.PROTOCOL, text)
        return self._outcome([RecipientOutcome(target, verdict, None, failure) for target in self.live], failure)

    async def _with_slot(self, route: Route) -> AttemptOutcome | GiveBack:
        slots = self.around.pool.site(self.ip.id, route.site)
        self._slot_wanted = time.monotonic()
        try:
            await slots.take(self.deadline - MIN_TALK_SECONDS - time.monotonic())
        except SlotTimeout:
            reason = f"{route.site}: all {slots.limit} connections from {self.ip.address} are busy"
            return GiveBack(self.job, SLOT_RETRY_SECONDS, route.site, reason)
        try:
            if time.monotonic() > self.deadline - MIN_TALK_SECONDS:
                return GiveBack(self.job)
            self.is_dialled = True
            return await self._try_endpoints(route)
        finally:
            slots.give()

    async def _try_endpoints(self, route: Route) -> AttemptOutcome:
        trouble: ConversationFailed | None = None
        tried = 0
        async for endpoint in self.around.router.endpoints(route):
            if not _same_family(endpoint.address, self.ip.bind_address):
                continue
            tried += 1
            try:
                transaction = await self._deliver(endpoint)
            except ConversationFailed as error:
                trouble = error if trouble is None or error.reply is not None or trouble.reply is None else trouble
                if tried >= MAX_ENDPOINTS or time.monotonic() > self.deadline - MIN_TALK_SECONDS:
                    break
                continue
            return self._of_transaction(transaction)
        if trouble is not None:
            return self._all_alike(trouble.stage, trouble.reply, trouble.failure)
        text = f"none of the addresses of {', '.join(route.hosts)} can be reached from {self.ip.address}"
        return self._all_alike(Stage.ROUTE, None, NetworkFailure(FailureKind.CONNECT, text))

    async def _deliver(self, endpoint: Endpoint) -> Transaction:
        """One transaction with one host; raises ConversationFailed when the next host may be tried."""
        line = Line(self.ip.bind_address, endpoint.address, endpoint.port)
        transaction = await self._reused(endpoint, line)
        if transaction is None:
            connection, requirement = await self._open(endpoint)
            transaction = await self._transact(connection, line, requirement, connection.opening_steps)
        if transaction.failure is not None and _is_before_message(transaction):
            failed = next(iter(transaction.results.values()))
            raise ConversationFailed(failed.stage, failed.reply, transaction.failure, transaction.steps)
        return transaction

    async def _reused(self, endpoint: Endpoint, line: Line) -> Transaction | None:
        """A transaction on an idle connection; None when there is none or it turned out to be closed."""
        connection = self.around.pool.reuse(line, self.around.tls)
        if connection is None:
            return None
        transaction = await self._transact(connection, line, self.around.tls, ())
        return None if transaction.stale else transaction

    async def _open(self, endpoint: Endpoint) -> tuple[SmtpConnection, TlsRequirement]:
        """A new connection; where opportunistic STARTTLS itself fails, once more in clear text (RFC 7435)."""
        requirement = self.around.tls
        try:
            return await self._connect(endpoint, requirement), requirement
        except ConversationFailed as error:
            if error.stage is not Stage.STARTTLS or requirement is not TlsRequirement.OPPORTUNISTIC:
                raise
        return await self._connect(endpoint, TlsRequirement.NONE), TlsRequirement.NONE

    async def _connect(self, endpoint: Endpoint, requirement: TlsRequirement) -> SmtpConnection:
        started = datetime.now(UTC)
        try:
            return await SmtpConnection.open(
                endpoint,
                source=self.ip.bind_address,
                helo_name=self.ip.helo_name,
                tls=requirement,
                deadline=self.deadline,
            )
        except ConversationFailed as error:
            if error.reply is not None:
                self.responded_host = endpoint.host
            self._record(endpoint, started, error.steps, error.failure)
            raise

    async def _transact(
        self, connection: SmtpConnection, line: Line, requirement: TlsRequirement, opening: Sequence[Step]
    ) -> Transaction:
        assert self.prepared is not None
        envelope = Envelope(
            reverse_path=make_reverse_path(
                self.job.send_id, self.job.attempt_id, self.job.instance_domain, self.around.return_path_keys
            ),
            recipients=tuple(target.address for target in self.live),
            # bodies are encoded, so octets above 127 are UTF-8 in a header: RFC 6531 is needed for those as well
            smtputf8=self.prepared.eight_bit or not all(target.address.isascii() for target in self.live),
            eight_bit=self.prepared.eight_bit,
        )
        self.connection = connection
        try:
            transaction = await connection.deliver(envelope, self.prepared.message, self.deadline)
        finally:
            self.connection = None
        started = connection.opened_at if opening else transaction.started_at
        self._record(connection.endpoint, started, (*opening, *transaction.steps), transaction.failure)
        self.responded_host = connection.endpoint.host
        self.tls = _tls_record(connection)
        if not self.around.pool.park(line, connection, requirement):
            await connection.close()
        return transaction

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
            outcomes.append(RecipientOutcome(target, verdict, result.reply, result.failure))
        return self._outcome(outcomes, transaction.failure)

    def _all_alike(self, stage: Stage, reply: Reply | None, failure: NetworkFailure | None) -> AttemptOutcome:
        verdict = classify(stage, reply, failure, len(self.live))
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
        )


def _is_before_message(transaction: Transaction) -> bool:
    """Nothing of the message's content had gone out: another host may be tried at once."""
    return all(result.stage is not Stage.DATA_CLOSE and result.reply is None for result in transaction.results.values())


def _same_family(address: str, other: str) -> bool:
    return (":" in address) is (":" in other)  # both are addresses; to parse them takes 8 µs


def _tls_record(connection: SmtpConnection) -> dict[str, Any] | None:
    if connection.tls is None:
        return None
    return {"version": connection.tls.version, "cipher": connection.tls.cipher, "verified": connection.tls.verified}
