"""What one run of a scenario is to do, and what goes wrong in a sentence."""

from dataclasses import asdict, dataclass
from typing import Any

SCENARIOS = {
    "drain": "queued messages leave for the sink",
    "accept": "single HTTP requests against the web process",
    "end_to_end": "accepted in batches while the senders run, and delivered to the sink",
}
LEAST_RATE = 50  # messages a second; whatever is slower than this is given up
START_SECONDS = 60.0  # for processes to start, and for the last mails to be settled
FILL_RATE = 500  # messages a second; accepting in batches is many times as fast


class BenchError(RuntimeError):
    """The benchmark has no valid result; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario with its options."""

    scenario: str
    messages: int = 20_000
    body_bytes: int = 2048
    signatures: int = 2
    processes: int = 2
    source_ips: tuple[str, ...] = ("127.0.0.2", "127.0.0.3")
    seconds: float = 10.0  # of `accept`
    connections: int = 8  # of `accept`
    batch: int = 100  # messages of one accept_many()
    pace: float = 0.0  # messages a second that `end_to_end` takes; 0: as fast as it can

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Plan":
        """The plan that `as_record` described."""
        return cls(**{**record, "source_ips": tuple(record["source_ips"])})

    def as_record(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    @property
    def deadline_seconds(self) -> float:
        """How long the measured part may take."""
        if self.scenario == "accept":
            return self.seconds + START_SECONDS
        paced = self.messages / self.pace if self.pace else 0.0
        return START_SECONDS + paced + self.messages / LEAST_RATE + self.messages * self.body_bytes / 1_000_000

    @property
    def limit_seconds(self) -> float:
        """How long the whole run may take, with its preparations."""
        return self.deadline_seconds + 2 * START_SECONDS + self.messages / FILL_RATE
