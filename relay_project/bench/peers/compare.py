"""Side A of `peers`: smtp-source hands mail to Postfix, OpenDKIM signs it, and Postfix delivers it to our own sink.

The same work as `end_to_end` with one signature: taken durably, queued, signed with RSA-2048 and delivered, on the same
machine to the same sink. The rate counts from the start of smtp-source to the last arrival.
"""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from relay_project.bench.facts import facts
from relay_project.bench.letters import sender_domain
from relay_project.bench.peers import opendkim
from relay_project.bench.peers import postfix as peer
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import cpu_seconds
from relay_project.bench.receiver import Receiver
from relay_project.bench.stage import wait_until
from relay_project.db.child import last_lines
from relay_project.mail.dkim import generate_rsa_key
from relay_project.quickstart.ports import LOOPBACK

POLL_SECONDS = 0.1
SESSIONS = 20  # of smtp-source
# One pass of tuning, by trying: what lets Postfix take and deliver as fast as it can on two cores.
SETTINGS = {
    "in_flow_delay": "0",  # it would slow down its own input
    "default_process_limit": "100",
    "default_destination_concurrency_limit": "20",
    "initial_destination_concurrency": "20",
    "smtp_destination_rate_delay": "0",
    "milter_default_action": "tempfail",  # nothing leaves unsigned
    "smtp_tls_security_level": "none",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_tls_security_level": "none",
}


def why_not() -> str | None:
    """Why this machine cannot compare, as a sentence; None when it can."""
    if shutil.which("smtp-source", path="/usr/sbin:/usr/bin") is None:
        return "Postfix is not installed (Debian: apt-get install postfix)."
    return peer.why_not() or opendkim.why_not()


def postfix(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run it once; every mail must arrive, with a signature."""
    if reason := why_not():
        raise BenchError(reason)
    conditions = facts(plan)
    key = generate_rsa_key()
    try:
        with (
            Receiver(folder, plan) as receiver,
            opendkim.OpenDkim(folder / "opendkim", domain=sender_domain(0), key_pem=key) as milter,
            peer.Postfix(folder / "postfix", _settings(receiver, milter)) as server,
        ):
            began = time.time()
            _load(plan, server.port)
            _await_arrivals(plan, receiver, server)
            cpu = {"peer_cpu_us": cpu_seconds(server.pid) + cpu_seconds(milter.pid)}
            arrivals = receiver.arrivals()
    except peer.PeerError as error:
        raise BenchError(str(error)) from None
    signatures = arrivals.sample.lower().count(b"dkim-signature:")
    if not signatures:
        raise BenchError("Postfix delivered without a signature; the comparison would not be fair.")
    return {
        "name": plan.scenario,
        "rate": round(len(arrivals.times) / (max(arrivals.times) - began), 1),
        "rate_by_second": arrivals.by_second(),
        "messages": plan.traffic.messages,
        "duplicates": 0,
        "missing": plan.traffic.messages - len(arrivals.times),
        "dkim_signatures_seen": signatures,
        "sink_cpu_us": arrivals.cpu_us,
        **{name: round(seconds * 1e6 / plan.traffic.messages) for name, seconds in cpu.items()},
        "percentiles": None,
        **conditions,
    }


def _settings(receiver: Receiver, milter: opendkim.OpenDkim) -> dict[str, str]:
    return {**SETTINGS, "relayhost": f"[{receiver.addresses[0]}]:{receiver.port}", "smtpd_milters": milter.address}


def _load(plan: Plan, port: int) -> None:
    """Hand in all messages; each has the recipient <number>someone@r.test, so none is like another."""
    command = ["/usr/sbin/smtp-source", "-s", str(SESSIONS), "-m", str(plan.traffic.messages), "-N"]
    command += ["-l", str(plan.traffic.body_bytes), "-f", f"news@{sender_domain(0)}", "-t", "someone@r0.test"]
    done = subprocess.run(  # noqa: S603 - the package's own program
        [*command, f"{LOOPBACK}:{port}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=plan.deadline_seconds,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"smtp-source ended with code {done.returncode}: {done.stderr.strip()[-300:]}")


def _await_arrivals(plan: Plan, receiver: Receiver, server: peer.Postfix) -> None:
    def are_here() -> bool:
        return receiver.count() >= plan.traffic.messages

    if not wait_until(are_here, plan.deadline_seconds, POLL_SECONDS):
        words = " | ".join(last_lines(server.log, 2))
        raise BenchError(f"Only {receiver.count():,} of {plan.traffic.messages:,} mails came through Postfix: {words}")
