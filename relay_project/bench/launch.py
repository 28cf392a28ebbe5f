"""A run in a process of its own: settings are read once, at import, so their values must be there before it starts."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relay_project.bench.database import BenchDatabase, bench_database
from relay_project.bench.kept import ARCHIVE, DEFAULT_ROOT, HISTORY, KeptFolder
from relay_project.bench.plan import BenchError, Plan
from relay_project.db.child import tethered
from relay_project.quickstart.ports import LOOPBACK, choose_ports

# The scenarios that make what is kept; none of those that people name.
BUILD_HISTORY, BUILD_ARCHIVE = "build_history", "build_archive"
INSTANCE_DOMAIN = "relay.test"  # RFC 6761: .test never leaves the machine
# OpenSSL's mask of what it sees in the processor (OPENSSL_ia32cap(3)): without bit 21 of EBX of leaf 7.
NO_IFMA = ":~0x200000"
UNSIGNED_DOMAIN = "unsigned.test"  # an instance domain without a key: mail accepted for it has a signature less
STOP_SECONDS = 60.0  # for the run to stop its children and the sink


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs happen: the program, the database server of others that is to be used, and the history's folder."""

    manage: Path
    database_url: str | None = None
    keep: bool = False
    history_root: Path = DEFAULT_ROOT

    @property
    def code(self) -> Path:
        """The folder of the program."""
        return self.manage.parent


def run_apart(plan: Plan, place: Place) -> dict[str, Any]:
    """Run a plan over an empty database, or over what is kept; returns its result. Raises BenchError.

    Leaves nothing but what is kept, unless `keep`.
    """
    if plan.history:
        return _run_over_kept(
            plan, place, BUILD_HISTORY, KeptFolder(HISTORY, place.history_root, plan.history, place.code)
        )
    if plan.archive:
        return _run_over_kept(
            plan, place, BUILD_ARCHIVE, KeptFolder(ARCHIVE, place.history_root, plan.archive, place.code)
        )
    with bench_database(place.database_url, place.keep) as database:
        return _run_over(plan, place, database)


def _run_over_kept(plan: Plan, place: Place, build: str, kept: KeptFolder) -> dict[str, Any]:
    if place.database_url:
        raise BenchError(f"The {kept.kind.name} has a server of its own: run this one without DATABASE_URL.")
    with kept.locked():
        if not kept.is_made:
            kept.begin()
            with kept.database(building=True) as database:
                made = _run_over(replace(plan, scenario=build), place, database)
            kept.finish()
            size, seconds = made["bytes"] / 1e9, made["seconds"]
            sys.stderr.write(f"The {kept.kind.name} is made: {size:.1f} GB in {seconds:.0f} seconds.\n")
        with kept.database() as database:
            return _run_over(plan, place, database)


def _run_over(plan: Plan, place: Place, database: BenchDatabase) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        Path(folder).chmod(0o711)  # peers change to accounts of their own
        command = [sys.executable, str(place.manage), "bench", "--inside", json.dumps(plan.as_record())]
        process = subprocess.Popen(  # noqa: S603 - our own command
            tethered(command, sign=signal.SIGTERM),
            env=environment(plan, database, Path(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        result = _result_of(process, plan.limit_seconds)
        return {**result, "database": database.description}


def environment(plan: Plan, database: BenchDatabase, folder: Path) -> dict[str, str]:
    """The settings of a run and of the processes it starts; what tunes the engine is taken from the caller's."""
    probes = ("PROBE_WEB", "PROBE_SENDERS", "PROBE_WEBHOOKS", "PROBE_SMTP", "PROBE_LIVE")
    listeners = ("WEB_BIND", "LIVE_BIND", "SANDBOX_SMTP", "SMTP_MX", "SMTP_SUBMISSION")
    ports = choose_ports(dict.fromkeys((*listeners, *probes), 0))
    return {
        **os.environ,
        "RELAY_ENV_FILE": os.devnull,
        "RELAY_HOME": str(folder),
        "TMPDIR": str(folder),  # what the processes leave there goes with it
        "DATABASE_URL": database.url,
        "DATABASE_DIRECT_URL": "",
        "APP_SECRET": database.secret or secrets.token_urlsafe(32),
        "INSTANCE_DOMAIN": INSTANCE_DOMAIN if plan.signatures == 2 else UNSIGNED_DOMAIN,
        "SERVER_NAME": "bench",
        "SMTP_SUBMISSIONS": "",
        "SOURCE_IPS": ",".join(plan.source_ips),
        "SANDBOX_INTERNET": "false",
        "DNS_RESOLVERS": f"{LOOPBACK}:9",  # the discard port: nobody is asked, SMTP_ROUTES says it all
        "OIDC_ISSUER_URL": "",
        "SENDS_PER_SECOND": "1000000",  # counted as ever, and never in the way
        "WEB_URL": f"http://{LOOPBACK}:{ports['WEB_BIND']}",
        "SHUTDOWN_SECONDS": "10",
        "LOG_LEVEL": "warning",
        "BENCH_FOLDER": str(folder),
        "BENCH_SERVER_PID": str(database.server_pid or ""),
        "BENCH_DATA": str(database.folder or ""),
        **({} if plan.ifma else {"OPENSSL_ia32cap": NO_IFMA}),
        **{name: f"{LOOPBACK}:{number}" for name, number in ports.items()},
    }


def _result_of(process: "subprocess.Popen[bytes]", limit_seconds: float) -> dict[str, Any]:
    """The last line that the run printed; raises BenchError with the sentence it gave instead."""
    try:
        output, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"The benchmark had not ended after {limit_seconds:.0f} seconds and was stopped.") from None
    finally:
        _stop(process)
    lines = output.decode(errors="replace").splitlines()
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise BenchError(f"The benchmark ended with exit code {process.returncode} and without a result.") from None
    if "error" in result:
        raise BenchError(result["error"])
    return dict(result)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
