"""What one run of a scenario is to do, and what goes wrong in a sentence."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

LEAST_RATE = 50  # messages a second; whatever is slower than this is given up
START_SECONDS = 60.0  # for processes to start, and for the last mails to be settled
FILL_RATE = 500  # messages a second; accepting in batches is many times as fast
ARCHIVE_RATE = 2_000  # sends a second that an archive is made at; it is many times as fast
CLONE_RATE = 4_000  # rows of mail a second that are put into the tables by COPY; it is ten times as fast


class BenchError(RuntimeError):
    """The benchmark has no valid result; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The mail. Shares are of messages, from 0 to 1."""

    messages: int = 20_000
    body_bytes: int = 2048
    recipients: int = 1  # of each message, all in one domain
    projects: int = 1
    domains: int = 100
    html_share: float = 1.0  # with HTML beside the text; the others have text alone
    attachment_share: float = 0.0
    attachment_bytes: int = 30_000

    @property
    def mails(self) -> int:
        """How many recipients all messages have."""
        return self.messages * self.recipients


@dataclass(frozen=True, slots=True)
class Remote:
    """The receiving side. Shares are as in relay_project.sandbox.manners."""

    sites: int = 1  # listening addresses that the domains are spread over
    starttls: bool = False
    chunking: bool = False
    defer: float = 0.0
    bounce: float = 0.0
    drop: float = 0.0
    cut: float = 0.0
    tarpit_mails: int = 0  # waiting for a site of their own, which answers late
    tarpit_seconds: float = 20.0

    @property
    def is_kind(self) -> bool:
        """Whether every mail is taken at its first try."""
        return not (self.defer or self.bounce or self.drop or self.cut)


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario with its options."""

    scenario: str
    traffic: Traffic = field(default_factory=Traffic)
    remote: Remote = field(default_factory=Remote)
    signatures: int = 2
    ifma: bool = True  # signing may use AVX-512 IFMA, where the processor has it
    processes: int = 2
    source_ips: tuple[str, ...] = ("127.0.0.2", "127.0.0.3")
    seconds: float = 10.0  # of `accept` and `submission`
    connections: int = 8  # of `accept` and `submission`, and of `end_to_end` through HTTP
    http: bool = False  # `end_to_end` accepts through POST /sends/batch, and not by calls of accept_many()
    batch: int = 100  # messages of one accept_many(), or of a request of `accept`
    reconnect: bool = False  # `submission` makes a connection for each mail
    slow_peers: int = 0  # that hold connections to run_smtp beside `submission`, and hardly say anything
    readers: bool = False  # `accept` beside run_webhooks, which counts what was accepted and makes it findable
    pace: float = 0.0  # messages (of `accept`: requests) a second; 0: as fast as it can
    mailboxes: int = 8  # of `mailbox`
    backlog: int = 0  # mails of another project that are waiting before `latency` begins
    waiting: int = 0  # mails that `drain` finds waiting; it ends when `messages` of them have arrived
    archive: int = 0  # sends that `search` looks in, made once and kept
    history: int = 0  # finished recipients over 30 daily partitions, made once and kept

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Plan":
        """The plan that `as_record` described."""
        parts = {"traffic": Traffic(**record["traffic"]), "remote": Remote(**record["remote"])}
        return cls(**{**record, **parts, "source_ips": tuple(record["source_ips"])})

    def as_record(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    @property
    def preparation_seconds(self) -> float:
        """How long filling the tables may take."""
        cloned = self.backlog + self.waiting + self.remote.tarpit_mails + self.history
        return 2 * START_SECONDS + self.traffic.messages / FILL_RATE + cloned / CLONE_RATE + self.archive / ARCHIVE_RATE

    @property
    def deadline_seconds(self) -> float:
        """How long the measured part may take."""
        if self.scenario in ("accept", "submission"):
            return self.seconds + START_SECONDS
        mails = self.traffic.mails
        paced = self.traffic.messages / self.pace if self.pace else 0.0
        return START_SECONDS + paced + mails / LEAST_RATE + mails * self.traffic.body_bytes / 1_000_000

    @property
    def limit_seconds(self) -> float:
        """How long the whole run may take, with its preparations."""
        return self.deadline_seconds + self.preparation_seconds


OPTIONS: dict[str, type] = {
    each.name: part
    for part in (Traffic, Remote, Plan)
    for each in fields(part)
    if each.name not in ("traffic", "remote")
}


def make_plan(scenario: str, **options: Any) -> Plan:
    """A plan from options by their names, whichever part they belong to; raises BenchError for an unknown one."""
    unknown = options.keys() - OPTIONS.keys()
    if unknown:
        raise BenchError(f"There is no option {sorted(unknown)[0]}.")
    parts: dict[type, dict[str, Any]] = {Traffic: {}, Remote: {}, Plan: {}}
    for name, value in options.items():
        parts[OPTIONS[name]][name] = value
    return Plan(scenario, Traffic(**parts[Traffic]), Remote(**parts[Remote]), **parts[Plan])
