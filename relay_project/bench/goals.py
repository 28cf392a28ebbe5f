"""What the product is held to, as data, and whether a result meets it.

Figures that signing bounds were set for two cores that do 2,700 RSA-2048 signatures a second each. Slower cores are held
in proportion to what they sign. Faster ones are held to the plain figure, and in proportion with the instructions hidden
that make them faster: those make signing quick and nothing else, so that full proportion would ask the rest of a mail's
work to get faster with them. The page names what full proportion would be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RSA_OF_THE_GOALS = 2_700  # signatures a second on one core


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for one figure (a path into the result) of one result."""

    result: str
    figure: str
    bound: float
    says: str
    at_most: bool = False
    scales: bool = False  # with RSA

    def bound_on(self, rsa_per_second: float) -> float:
        """The bound on a machine."""
        return min(self.bound, self.in_proportion(rsa_per_second)) if self.scales else self.bound

    def in_proportion(self, rsa_per_second: float) -> float:
        """What the bound would be if all of a mail's work went at the pace of signing."""
        return round(self.bound * rsa_per_second / RSA_OF_THE_GOALS)


MEMORY = Goal("*", "sender_peak_mib", 300, "resident memory of a sender process", at_most=True)
GOALS = (
    Goal("drain", "rate", 1_500, "drain, 2 KB, two signatures, mails/s", scales=True),
    Goal("drain-1-signature", "rate", 2_000, "drain, 2 KB, one signature, mails/s", scales=True),
    Goal("drain-without-ifma", "rate", 1_500, "the same with two signatures, AVX-512 IFMA hidden", scales=True),
    Goal("drain-1-signature-without-ifma", "rate", 2_000, "the same with one, AVX-512 IFMA hidden", scales=True),
    Goal("drain-100-kb", "rate", 600, "drain, 100 KB, one signature, mails/s", scales=True),
    Goal("starttls", "ratio", 0.8, "drain with STARTTLS on every connection, against clear text"),
    Goal("latency-idle", "percentiles.p50", 30, "accept to 250 on an idle system, p50, ms", at_most=True),
    Goal("latency-idle", "percentiles.p99", 150, "accept to 250 on an idle system, p99, ms", at_most=True),
    Goal("latency-50", "percentiles.p50", 60, "accept to 250 at 50/s, p50, ms", at_most=True),
    Goal("latency-50", "percentiles.p99", 250, "accept to 250 at 50/s, p99, ms", at_most=True),
    Goal("latency-300", "percentiles.p50", 60, "accept to 250 at 300/s, p50, ms", at_most=True),
    Goal("latency-300", "percentiles.p99", 250, "accept to 250 at 300/s, p99, ms", at_most=True),
    Goal(
        "latency-backlog",
        "percentiles.max",
        2_000,
        "accept to 250 beside 100,000 of another project, slowest, ms",
        True,
    ),
    Goal("history", "ratio", 0.9, "drain with 10 M finished and 1 M waiting, against empty tables"),
    Goal("tarpit", "ratio", 0.9, "drain beside a site that tarpits with 10,000 waiting, against without"),
    Goal("end_to_end", "rate", 1_300, "end_to_end, 2 KB, one signature, mails/s", scales=True),
    Goal("end_to_end-without-ifma", "rate", 1_300, "the same, AVX-512 IFMA hidden", scales=True),
    Goal("suppressions", "import_seconds", 60, "import of 1 M suppressions, s", at_most=True),
    Goal(
        "suppressions", "web_peak_mib", 200, "memory of a web process with it, and with its export, MiB", at_most=True
    ),
    Goal("suppressions", "searches.common.p99", 300, "search in 1 M suppressions, common piece, p99, ms", at_most=True),
    Goal("suppressions", "searches.rare.p99", 300, "the same, rare piece", at_most=True),
    Goal("suppressions", "searches.absent.p99", 300, "the same, absent piece", at_most=True),
    Goal("accept", "rate", 800, "POST /sends, one message each, requests/s"),
    Goal("accept-400", "percentiles.p99", 100, "POST /sends at 400/s, p99, ms", at_most=True),
    Goal("accept-batch", "rate", 10_000, "POST /sends/batch, 1,000 messages each, messages/s"),
    Goal("submission", "rate", 800, "mails of 5 KB submitted over 32 kept connections, a second"),
    Goal("submission", "percentiles.p99", 150, "the same, from the end of the data to the 250, p99, ms", at_most=True),
    Goal("submission-8", "rate", 500, "the same over 8 kept connections, a second"),
    Goal("submission-reconnect", "rate", 150, "the same with a connection, TLS and AUTH for each mail, a second"),
    Goal("slow-peers", "ratio", 0.9, "submission beside 200 slow peers, against nobody slow"),
    Goal("reports", "stored_per_second", 500, "reports stored and acknowledged, a second"),
    Goal("reports", "rate", 300, "reports parsed and applied, a second"),
    Goal("webhooks", "rate", 1_000, "calls of one webhook with a fast receiver, a second"),
    Goal("webhooks-idle", "percentiles.p50", 100, "an event's commit to its call on an idle system, p50, ms", True),
    Goal("webhooks-idle", "percentiles.p99", 1_000, "the same, p99, ms", at_most=True),
    Goal("hanging", "ratio", 0.9, "calls of 45 webhooks beside five that never answer, against nobody hanging"),
    Goal("live", "percentiles.max", 500, "an event until the last of 1,000 streams has it, slowest, ms", at_most=True),
    Goal("live", "live_peak_mib", 200, "memory of a process with 1,000 streams, MiB", at_most=True),
    Goal("live", "missing", 0, "events that a stream misses over a rolling restart", at_most=True),
    *(
        Goal("mailbox", f"parts.{part}{suffix}.rate", least, f"mailbox: {says}, {how}")
        for suffix, least, how in (("", 600, "requests/s"), ("_batch", 5_000, "100 in a request, items/s"))
        for part, says in (("deposit", "deposit"), ("receive", "receive"), ("ack", "acknowledge"))
    ),
    *(
        Goal("search", f"searches.{kind}.p99", 50, f"GET /sends over 10 M sends, {says}, p99, ms", at_most=True)
        for kind, says in (
            ("exact", "a whole address"),
            ("exact_absent", "a whole address that is nowhere"),
            ("prefix", "the beginning of an address"),
            ("prefix_absent", "a beginning that is nowhere"),
            ("status", "a status"),
            ("status_rare", "a rare status"),
        )
    ),
    *(
        Goal("search", f"searches.{kind}.p99", 300, f"GET /sends over 10 M sends, {says}, p99, ms", at_most=True)
        for kind, says in (
            ("common", "a common part of an address"),
            ("rare", "a rare part"),
            ("absent", "a part that is nowhere"),
            ("absent_of_common_parts", "a part that is nowhere, made of common ones"),
            ("subject_rare", "a rare part of a subject"),
        )
    ),
    Goal("peers", "ratio", 4, "end_to_end, one signature, against Postfix with OpenDKIM"),
)


def judge(name: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a result with that name is held to: each goal with its bound on this machine, and whether it is met."""
    return [
        _judge(goal, result, value) for goal in goals_of(name) if (value := figure_of(result, goal.figure)) is not None
    ]


def goals_of(name: str) -> Iterable[Goal]:
    """The goals of a result's name, with the one that all share."""
    return [*(goal for goal in GOALS if goal.result == name), MEMORY]


def figure_of(result: Mapping[str, Any], path: str) -> float | None:
    """A number inside a result, None where it has none."""
    found: Any = result
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) else None


def _judge(goal: Goal, result: Mapping[str, Any], value: float) -> dict[str, Any]:
    bound = goal.bound_on(result["rsa_2048_per_second"])
    met = value <= bound if goal.at_most else value >= bound
    return {
        "figure": goal.figure,
        "says": goal.says,
        "goal": goal.bound,
        "bound": bound,
        "at_most": goal.at_most,
        "value": value,
        "met": met,
    }
