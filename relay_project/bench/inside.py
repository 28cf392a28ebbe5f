"""The run itself, in a process whose settings were made for it (bench.launch)."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connections

from relay_project.bench.accept import accept
from relay_project.bench.archive import build_archive
from relay_project.bench.build import build_history
from relay_project.bench.latency import latency
from relay_project.bench.launch import BUILD_ARCHIVE, BUILD_HISTORY
from relay_project.bench.live import live
from relay_project.bench.mailbox import mailbox
from relay_project.bench.outgoing import drain, end_to_end
from relay_project.bench.peers.compare import postfix
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.reports import reports
from relay_project.bench.scenarios import PEER_SCENARIO
from relay_project.bench.search import search
from relay_project.bench.submission import submission
from relay_project.bench.suppressions import suppressions
from relay_project.bench.webhooks import webhooks
from relay_project.supervise import sigterm_as_interrupt

RUNS: dict[str, Callable[[Plan, Path], dict[str, Any]]] = {
    "drain": drain,
    "end_to_end": end_to_end,
    "latency": latency,
    "accept": accept,
    PEER_SCENARIO: postfix,
    "search": search,
    "reports": reports,
    "webhooks": webhooks,
    "submission": submission,
    "live": live,
    "mailbox": mailbox,
    "suppressions": suppressions,
    BUILD_HISTORY: build_history,
    BUILD_ARCHIVE: build_archive,
}


def run_inside(plan_text: str) -> None:
    """Run a plan and print its result, or the sentence why there is none, as one line of JSON."""
    plan = Plan.of(json.loads(plan_text))
    try:
        with sigterm_as_interrupt():
            result = RUNS[plan.scenario](plan, Path(os.environ["BENCH_FOLDER"]))
    except BenchError as error:
        result = {"error": str(error)}
    finally:
        connections.close_all()
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
