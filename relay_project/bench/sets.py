"""What `make bench` and `make bench-full` run: the title of each result, and how it is measured.

A title is the name of the result's file, and the one that goals.py knows it by.
"""

from relay_project.bench.repeat import Entry

THRICE = 3
LATENCY_IDLE = {"pace": 2.0, "messages": 100}
LATENCY_50 = {"pace": 50.0, "messages": 1_500}
LATENCY_300 = {"pace": 300.0, "messages": 6_000}
# The slowest of these is what counts, so each must find the backlog: they last about twenty seconds.
LATENCY_BACKLOG = {"pace": 5.0, "messages": 100, "backlog": 100_000}
ACCEPT_400 = {"pace": 400.0, "connections": 16}  # half of the goal of `accept`
ACCEPT_BATCH = {"batch": 1000, "connections": 4}
WEBHOOKS_IDLE = {"pace": 2.0, "messages": 100}
SUBMISSION = {"seconds": 8.0}

QUICK = {
    "drain": Entry("drain"),
    "starttls": Entry("starttls", {"messages": 8_000}),
    "latency-idle": Entry("latency", {"pace": 2.0, "messages": 30}),
    "latency-50": Entry("latency", {"pace": 50.0, "messages": 500}),
    "latency-300": Entry("latency", {"pace": 300.0, "messages": 3_000}),
    "end_to_end": Entry("end_to_end", {"signatures": 1}),
    "accept": Entry("accept", {"seconds": 8.0}),
    "accept-400": Entry("accept", {"seconds": 8.0, **ACCEPT_400}),
    "accept-batch": Entry("accept", {"seconds": 8.0, **ACCEPT_BATCH}),
}
FULL = {
    "drain": Entry("drain", repeat=THRICE),
    "drain-1-signature": Entry("drain", {"signatures": 1}, repeat=THRICE),
    "drain-without-ifma": Entry("drain", {"ifma": False, "messages": 10_000}, repeat=THRICE),
    "drain-1-signature-without-ifma": Entry(
        "drain", {"signatures": 1, "ifma": False, "messages": 10_000}, repeat=THRICE
    ),
    "drain-100-kb": Entry("drain", {"signatures": 1, "messages": 5_000, "body_bytes": 102_400}, repeat=THRICE),
    "starttls": Entry("starttls", {"messages": 15_000}, repeat=THRICE),
    "latency-idle": Entry("latency", LATENCY_IDLE),
    "latency-50": Entry("latency", LATENCY_50),
    "latency-300": Entry("latency", LATENCY_300),
    "latency-backlog": Entry("latency", LATENCY_BACKLOG),
    "tarpit": Entry("tarpit", {"messages": 15_000}, repeat=THRICE),
    "end_to_end": Entry("end_to_end", {"signatures": 1, "messages": 15_000}, repeat=THRICE),
    "end_to_end-without-ifma": Entry("end_to_end", {"signatures": 1, "ifma": False, "messages": 10_000}, repeat=THRICE),
    "suppressions": Entry("suppressions"),
    "accept": Entry("accept", repeat=THRICE),
    "accept-400": Entry("accept", ACCEPT_400),
    "accept-batch": Entry("accept", ACCEPT_BATCH, repeat=THRICE),
    "readers": Entry("readers", repeat=THRICE),
    "readers-400": Entry("readers", {"pace": 400.0, "connections": 16}),
    "peers": Entry("peers", {"messages": 10_000}, repeat=THRICE),
    "reports": Entry("reports", repeat=THRICE),
    "submission": Entry("submission", SUBMISSION),
    "submission-8": Entry("submission", {**SUBMISSION, "connections": 8}),
    "submission-reconnect": Entry("submission", {**SUBMISSION, "connections": 8, "reconnect": True}),
    "slow-peers": Entry("slow-peers", {"seconds": 8.0}),
    "webhooks": Entry("webhooks", repeat=THRICE),
    "webhooks-idle": Entry("webhooks", WEBHOOKS_IDLE),
    "hanging": Entry("hanging", repeat=THRICE),
    "live": Entry("live"),
    "mailbox": Entry("mailbox", repeat=THRICE),
    "search": Entry("search"),
    "history": Entry("history", {"messages": 20_000}, repeat=THRICE),
}
SETS = {"quick": QUICK, "full": FULL}
