"""The conditions of a run, so that figures from different machines can be set side by side."""

import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from django.conf import settings
from django.db import connection

from relay_project.bench.plan import Plan
from relay_project.mail.dkim import SigningKey, generate_rsa_key

RSA_SECONDS = 0.2
RSA_TIMES = 5  # the median of so many: somebody else may be busy for a moment
SYNCS = 50
BLOCK = b"\0" * 8192  # what a commit of PostgreSQL writes at least


def facts(plan: Plan) -> dict[str, Any]:
    """What the plan says, the machine, the versions and the database's promises."""
    data = os.environ.get("BENCH_DATA", "")
    return {
        "body_bytes": plan.traffic.body_bytes,
        "recipients": plan.traffic.recipients,
        "sites": plan.remote.sites,
        "starttls": plan.remote.starttls,
        "signatures": plan.signatures,
        "ifma": plan.ifma,
        "processes": plan.processes,
        "source_ips": len(plan.source_ips),
        "in_flight_rows": settings.IN_FLIGHT_ROWS,
        "site_connections": settings.SITE_CONNECTIONS,
        "fsync": _show("fsync") == "on",
        "synchronous_commit": _show("synchronous_commit"),
        "fdatasync_us": fdatasync_us(Path(data).parent) if data else None,
        "shared_buffers": _show("shared_buffers"),
        "cores": cores(),
        "cpu": cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "rsa_2048_per_second": round(rsa_per_second(cores())),
        "rsa_2048_alone_per_second": round(rsa_per_second(1)),
        "versions": {
            "python": platform.python_version(),
            "postgresql": _show("server_version").split(" ")[0],
            "relay": settings.VERSION,
            **{name: version(name) for name in ("django", "psycopg", "cryptography", "uvloop")},
        },
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def percentiles(values: Sequence[float], of: str) -> dict[str, Any] | None:
    """p50, p90, p95, p99 and the greatest of milliseconds, and what they are of."""
    if not values:
        return None
    ordered = sorted(values)
    points = {
        f"p{part}": round(ordered[min(len(ordered) * part // 100, len(ordered) - 1)], 2) for part in (50, 90, 95, 99)
    }
    return {"of": of, "unit": "ms", **points, "max": round(ordered[-1], 2)}


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def rsa_per_second(busy: int, times: int = RSA_TIMES) -> float:
    """RSA-2048 signatures of one core while `busy` cores sign: what signing costs on this machine now.

    Two virtual cores are often one real one, and do much less together than each alone; a drain has all of them sign.
    """
    key = SigningKey.load(generate_rsa_key())
    with ThreadPoolExecutor(busy) as threads:  # signing lets go of the interpreter
        return median(sum(threads.map(_rsa_per_second, [key] * busy)) / busy for _ in range(times))


def _rsa_per_second(key: SigningKey) -> float:
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < RSA_SECONDS:
        key.sign(BLOCK[:500])
        count += 1
    return count / (time.perf_counter() - began)


def fdatasync_us(folder: Path) -> int | None:
    """The median of writing a block durably in that folder; None where this account may not write there."""
    path = folder / "fdatasync"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        return round(median(_sync(descriptor) for _ in range(SYNCS)) * 1e6)
    finally:
        os.close(descriptor)
        path.unlink()


def _sync(descriptor: int) -> float:
    began = time.perf_counter()
    os.write(descriptor, BLOCK)
    os.fdatasync(descriptor)
    return time.perf_counter() - began


def _show(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return str(cursor.fetchone()[0])


def cpu_model() -> str:
    """The processor's name, and whether it has what doubles RSA's speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    extra = " with AVX-512 IFMA" if any(line.startswith("flags") and "avx512ifma" in line for line in lines) else ""
    return (names[0] if names else platform.machine()) + extra
