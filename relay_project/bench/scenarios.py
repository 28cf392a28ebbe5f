"""The scenarios by name: what happens, which options each reads, and what they are when nobody says.

A comparison runs two plans in turn (A, B, A, B, …) and gives the ratio of their medians.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay_project.bench.plan import BenchError, Plan, make_plan

_MAIL = (
    *("messages", "body_bytes", "recipients", "projects", "domains", "html_share", "attachment_share"),
    "attachment_bytes",
)
_REMOTE = ("sites", "starttls", "chunking", "defer", "bounce", "drop", "cut")
_SENDERS = ("signatures", "ifma", "processes", "source_ips")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    says: str
    options: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A: the ratio is B's median rate over A's. Options apply to both sides; `a` and `b` come last."""

    says: str
    scenario: str
    a: Mapping[str, Any]
    b: Mapping[str, Any]
    options: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "drain": Scenario(
        "mail that waits leaves for the sink",
        (*_MAIL, *_REMOTE, *_SENDERS, "batch", "waiting", "history", "tarpit_mails", "tarpit_seconds"),
    ),
    "end_to_end": Scenario(
        "accepted in batches while the senders run, and delivered to the sink",
        (*_MAIL, *_REMOTE, *_SENDERS, "http", "connections", "batch", "pace"),
        {"messages": 10_000, "http": True, "connections": 2},
    ),
    "latency": Scenario(
        "single messages at a steady pace, from accept() to the sink's 250; beside a backlog where that is asked for",
        (*_MAIL, *_REMOTE, *_SENDERS, "pace", "backlog"),
        {"messages": 500, "pace": 50.0, "batch": 1},
    ),
    "accept": Scenario(
        "HTTP requests against the web process, of one message or of a batch; nobody sends",
        ("body_bytes", "seconds", "connections", "batch", "pace", "readers"),
        {"batch": 1, "connections": 32},
    ),
    "submission": Scenario(
        "mails submitted to run_smtp with STARTTLS and AUTH, over kept connections or one for each; nobody sends",
        ("body_bytes", "seconds", "connections", "reconnect", "slow_peers"),
        {"body_bytes": 5_000, "connections": 32},
    ),
    "suppressions": Scenario(
        "a CSV of 1 M suppressed addresses is imported over HTTP, searched and exported",
        ("messages",),
        {"messages": 1_000_000},
    ),
    "reports": Scenario(
        "mail that left comes back as reports, which are stored, and then read",
        ("messages", "connections", "batch"),
        {"messages": 6_000, "connections": 20},
    ),
    "webhooks": Scenario(
        "events come to webhooks, all at once or at a pace; beside some that never answer where that is asked for",
        ("messages", "connections", "pace", "slow_peers"),
        {"messages": 20_000, "connections": 1},
    ),
    "live": Scenario(
        "streams of one run_live are told of mail that is accepted, and another run_live takes them over",
        ("messages", "connections", "pace", "body_bytes"),
        {"messages": 100, "connections": 1_000, "pace": 5.0},
    ),
    "mailbox": Scenario(
        "items are deposited in mailboxes, received and acknowledged, one by one and in batches",
        ("messages", "body_bytes", "connections", "batch", "mailboxes"),
        {"messages": 40_000, "body_bytes": 1_000, "connections": 16, "batch": 100},
    ),
    "search": Scenario(
        "GET /sends with filters, over 10 M sends in 30 daily partitions",
        ("archive",),
        {"archive": 10_000_000},
    ),
}
COMPARISONS = {
    "starttls": Comparison(
        "drain with STARTTLS on every connection, against clear text",
        "drain",
        {"starttls": False},
        {"starttls": True},
        (*_MAIL, *_SENDERS, "sites", "batch"),
    ),
    "history": Comparison(
        "drain with 10 M finished recipients over 30 daily partitions and 1 M waiting, against empty tables",
        "drain",
        {"history": 0, "waiting": 40_000},
        {},
        ("messages", "signatures", "processes", "waiting", "history"),
        {"history": 10_000_000, "waiting": 1_000_000},
    ),
    "tarpit": Comparison(
        "drain to many sites while 10,000 mails wait for one that tarpits, against nobody tarpitting",
        "drain",
        {"tarpit_mails": 0},
        {},
        (*_MAIL, *_SENDERS, "sites", "batch", "tarpit_mails", "tarpit_seconds"),
        {"sites": 20, "tarpit_mails": 10_000},
    ),
    "readers": Comparison(
        "accept beside the readers that count each send and write its search text, against nobody reading",
        "accept",
        {"readers": False},
        {"readers": True},
        ("body_bytes", "seconds", "connections", "batch", "pace"),
        {"batch": 1, "connections": 32},
    ),
    "slow-peers": Comparison(
        "submission beside 200 slow peers, against nobody slow",
        "submission",
        {"slow_peers": 0},
        {},
        ("body_bytes", "seconds", "connections", "reconnect", "slow_peers"),
        {"connections": 8, "slow_peers": 200},
    ),
    "hanging": Comparison(
        "calls of 45 webhooks beside five more whose receivers never answer, against nobody hanging",
        "webhooks",
        {"slow_peers": 0},
        {},
        ("messages", "connections", "slow_peers"),
        {"messages": 2_000, "connections": 45, "slow_peers": 5},
    ),
    "peers": Comparison(
        "end_to_end with one signature, against smtp-source, Postfix and OpenDKIM on the same sink",
        "end_to_end",
        {},
        {},
        ("messages", "body_bytes", "processes", "http", "connections", "batch", "chunking"),
        {"signatures": 1, "messages": 20_000, "chunking": True, "http": True, "connections": 2},
    ),
}
PEER_SCENARIO = "postfix"  # side A of `peers`: no process of ours but the sink


def plan_of(name: str, given: Mapping[str, Any]) -> Plan:
    """The plan of a scenario with what was asked for; raises BenchError for an option it does not read."""
    scenario = SCENARIOS[name]
    _check(name, scenario.options, given)
    return make_plan(name, **{**scenario.defaults, **given})


def plans_of(name: str, given: Mapping[str, Any]) -> tuple[Plan, Plan]:
    """Both sides of a comparison, A and B."""
    comparison = COMPARISONS[name]
    _check(name, comparison.options, given)
    both = {**SCENARIOS[comparison.scenario].defaults, **comparison.defaults, **given}
    first = PEER_SCENARIO if name == "peers" else comparison.scenario
    return make_plan(first, **{**both, **comparison.a}), make_plan(comparison.scenario, **{**both, **comparison.b})


def _check(name: str, options: tuple[str, ...], given: Mapping[str, Any]) -> None:
    unread = sorted(given.keys() - set(options))
    if unread:
        words = ", ".join(f"--{option.replace('_', '-')}" for option in unread)
        raise BenchError(f"{name} does not read {words}; `manage.py bench --list` shows what it does.")
