"""The product's processes as children of the quickstart, and waiting until they are ready."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from relay_project.quickstart.home import QuickstartError
from relay_project.supervise import Program, Supervisor

# Name (as in PROBE_<NAME>) → command. run_web and run_live become gunicorn.
COMMANDS = {
    "sandbox": "run_sandbox",
    "web": "run_web",
    "senders": "run_senders",
    "webhooks": "run_webhooks",
    "housekeeping": "run_housekeeping",
    "smtp": "run_smtp",
    "live": "run_live",
}
READY_SECONDS = 60.0  # starting all of them takes 3–6 s on two busy cores
ASK_AGAIN_SECONDS = 0.1
ANSWER_SECONDS = 5.0


def programs(base: Path) -> list[Program]:
    """Return the children to run; they inherit this process's environment."""
    manage = [sys.executable, str(base / "manage.py")]
    return [Program(name, [*manage, command]) for name, command in COMMANDS.items()]


def wait_until_ready(
    supervisor: Supervisor, addresses: Mapping[str, tuple[str, int]], on_ready: Callable[[str, float], None]
) -> None:
    """Return when /ready of every child says 200, telling `on_ready` each name and its seconds.

    Raises QuickstartError with the last refusal of those that are not ready in time.
    """
    began = time.monotonic()
    refusals = dict.fromkeys(COMMANDS, "it does not answer")
    while refusals:
        if time.monotonic() - began > READY_SECONDS:
            told = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
            raise QuickstartError(f"Not ready after {READY_SECONDS:.0f} seconds: {told}.")
        supervisor.tick()
        for name in list(refusals):
            refusal = _refusal(addresses[name])
            if refusal is None:
                on_ready(name, time.monotonic() - began)
                del refusals[name]
            else:
                refusals[name] = refusal
        time.sleep(ASK_AGAIN_SECONDS)


def _refusal(address: tuple[str, int]) -> str | None:
    """Return why the process at that address is not ready, None when it is."""
    try:
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/ready", timeout=ANSWER_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return _failed_checks(error.read())
    except OSError:
        return "it does not answer"


def _failed_checks(body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{name} ({check['detail']})" for name, check in checks.items() if not check["passed"])
    except (ValueError, KeyError, TypeError):
        return "its checks fail"
