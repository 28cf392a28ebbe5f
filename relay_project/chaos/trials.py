"""The misfortunes, by name. Each gets an arena with a witness and an empty database, and hurts what it says it hurts."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from relay_project.bench.process import Process, family
from relay_project.chaos.arena import Arena, ChaosError, alive, answers, hurt, kill_all, wait_until
from relay_project.chaos.mailbox import kill_in_turn
from relay_project.chaos.noise import Port, make_noise
from relay_project.chaos.webhooks import kill_both_sides
from relay_project.chaos.witness import STEPS
from relay_project.db.postgres_binaries import account_for
from relay_project.quickstart.ports import choose_ports

MESSAGES = 2000  # of a trial
PATIENCE = 60.0  # seconds for a step to be reached
LEASE_SECONDS = 45.0  # CONVERSATION_SECONDS and LEASE_GRACE_SECONDS of the arena
DISK_MIB = 640  # of the small disk: a fresh database, its write-ahead log, and little more
GONE_SECONDS = 60.0
NOISE = 20_000  # inputs
MAY_GROW_BYTES = 32 * 1024 * 1024  # of the SMTP server, from the first tenth of the noise on; caches fill until then


class Told(Protocol):
    """What those saw who are told of mail."""

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""

    def as_record(self) -> dict[str, Any]:
        """For JSON."""


class LeftOut(ChaosError):
    """This machine cannot do that; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One misfortune. Without `may_duplicate` not one copy too many is allowed.

    `act` may give a question back, which is asked when the mail has settled: what became of those who are told of it.
    """

    says: str
    act: Callable[[Arena], Callable[[], Told] | None]
    may_duplicate: bool = True
    cut_share: float = 0.0  # of messages that the receiver takes without saying so
    slow: float = 0.2  # seconds at most before it says so
    messages: int = MESSAGES  # unless another number is asked for
    on_small_disk: bool = False


def kill_at_each_step(arena: Arena) -> None:
    """At every step of the conversation, in the claim and in the settle."""
    arena.start_senders()
    loader = arena.load(pace=60)
    for step in STEPS:
        trap = arena.witness.set_trap(step)
        if not trap.sprung.wait(PATIENCE):
            raise ChaosError(f"No conversation came to the step {step} within {PATIENCE:.0f} seconds.")
        wait_until(lambda: len(arena.sender_pids()) >= 1, PATIENCE, "No sender served an IP")
        hurt(arena.sender_pids().get(trap.peer, 0) or next(iter(arena.sender_pids().values())), signal.SIGKILL)
        trap.released.set()
        wait_until(lambda: len(arena.sender_pids()) >= 2, PATIENCE, "The senders did not take the source IPs again")
    for table in ("sending_send", "sending_attempt"):  # what a claim reads, what a settle writes
        with arena.locked(table):
            time.sleep(2.0)
            for pid in arena.sender_pids().values():
                hurt(pid, signal.SIGKILL)
        wait_until(lambda: len(arena.sender_pids()) >= 2, PATIENCE, "The senders did not take the source IPs again")
    loader.join(PATIENCE * 3)


def kill_everything(arena: Arena) -> None:
    """Supervisor and senders at once, three times."""
    loader = arena.load(pace=150)
    for _ in range(3):
        senders = arena.start_senders()
        time.sleep(3.0)
        kill_all(senders)
    arena.start_senders()
    loader.join(PATIENCE)


def stop_past_the_lease(arena: Arena) -> None:
    """One sender hangs, its conversations open, until others have sent its mail; then it wakes up."""
    arena.start_senders()
    trap = arena.witness.set_trap("dot")
    loader = arena.load(pace=100)
    if not trap.sprung.wait(PATIENCE):
        raise ChaosError("No conversation came to its final dot.")
    pid = arena.sender_pids()[trap.peer]
    hurt(pid, signal.SIGSTOP)
    trap.released.set()
    time.sleep(LEASE_SECONDS + 10)
    hurt(pid, signal.SIGCONT)
    loader.join(PATIENCE)


def starve(arena: Arena) -> None:
    """Each process in turn gets no CPU for some seconds, shorter than its lease."""
    senders = arena.start_senders()
    others = [arena.start("run_webhooks"), arena.start("run_housekeeping")]
    loader = arena.load(pace=100)
    victims = [*family(senders.pid), *(pid for process in others for pid in family(process.pid)), loader.process.pid]
    for pid in victims:
        hurt(pid, signal.SIGSTOP)
        time.sleep(4.0)
        hurt(pid, signal.SIGCONT)
        time.sleep(0.5)
    loader.join(PATIENCE)


def restart_database(arena: Arena) -> None:
    """It crashes three times with two senders in mid-conversation."""
    arena.start_senders()
    loader = arena.load(pace=100)
    for _ in range(3):
        time.sleep(4.0)
        arena.crash_database()
        time.sleep(2.0)
        arena.start_database()
    loader.join(PATIENCE)


def lose_database_for_a_minute(arena: Arena) -> None:
    """In the middle of a full drain; the accepting side goes on trying."""
    loader = arena.load(pace=1000, batch=50)
    loader.join(PATIENCE)
    arena.start_senders()
    time.sleep(2.0)
    arena.server.stop()
    late = arena.load(messages=200, pace=50)
    time.sleep(GONE_SECONDS)
    arena.start_database()
    late.join(PATIENCE)


def cut_lock_connections(arena: Arena) -> None:
    """The session that holds a sender's locks is terminated, again and again: the living are not taken for dead."""
    arena.start_senders()
    loader = arena.load(pace=150)
    for _ in range(6):
        time.sleep(2.0)
        if not arena.terminate("application_name = 'relay sender lock'"):
            raise ChaosError("There was no lock connection to terminate.")
    loader.join(PATIENCE)


def cut_all_connections(arena: Arena) -> None:
    """Every session of the database, ten times."""
    arena.start_senders()
    loader = arena.load(pace=150)
    for _ in range(10):
        time.sleep(1.2)
        arena.terminate("true")
    loader.join(PATIENCE)


def press_try_now(arena: Arena) -> None:
    """Somebody presses "try now" on mail in flight, all the time."""
    arena.start_senders()
    loader = arena.load(pace=150)
    impatience = arena.hurry(seconds=15)
    loader.join(PATIENCE)
    impatience.wait(PATIENCE)


def deploy(arena: Arena) -> None:
    """Three rolling deploys: the new senders start before the old ones have ended."""
    loader = arena.load(pace=150)
    current = arena.start_senders()
    for _ in range(3):
        time.sleep(2.0)
        following = arena.start("run_senders", "--processes", "2")
        time.sleep(3.0)
        hurt(current.pid, signal.SIGTERM)
        _await_end(current)
        current = following
    loader.join(PATIENCE)


def _await_end(process: Process) -> None:
    wait_until(lambda: not alive(process.pid), PATIENCE, "The old senders did not end")


def kill_while_accepting(arena: Arena) -> None:
    """The accepting process dies with batches half-way; what it was told is safe arrives."""
    arena.start_senders()
    share = max(arena.messages // 4, 50)
    for _ in range(4):
        loader = arena.load(messages=share, pace=2000, batch=5)
        wait_until(lambda loader=loader: len(loader.accepted) > share // 3, PATIENCE, "Nothing was accepted")  # type: ignore[misc]
        loader.kill()
        loader.join(PATIENCE)


def kill_readers(arena: Arena) -> None:
    """run_webhooks and run_housekeeping die five times: every event still gets its one position in the feed."""
    arena.start_senders()
    loader = arena.load(pace=100)
    rng = random.Random(3)  # noqa: S311
    for _ in range(5):
        readers = [arena.start("run_webhooks"), arena.start("run_housekeeping")]
        time.sleep(3.0 + rng.random())
        for process in readers:
            kill_all(process)
    arena.start("run_webhooks")
    loader.join(PATIENCE)


def lose_replies(arena: Arena) -> None:
    """The receiver takes mail and closes without its 250, as RFC 1047 describes."""
    arena.start_senders()
    arena.load(pace=150).join(PATIENCE)


def fill_the_disk(arena: Arena) -> None:
    """The database's disk is full for ten seconds in mid-drain; PostgreSQL may fall, and is started again."""
    arena.start_senders()
    loader = arena.load(pace=150)
    time.sleep(3.0)
    filler = arena.server.data.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 2**20)
        except OSError:
            pass
    time.sleep(10.0)
    filler.unlink()
    wait_until(lambda: not arena.server.is_running or bool(arena.query("SELECT 1")), PATIENCE, "PostgreSQL hangs")
    arena.start_database()
    loader.join(PATIENCE)


def shout_at_the_way_in(arena: Arena) -> None:
    """NOISE inputs on the SMTP server's ports while mail leaves: the same process answers at once when they are over."""
    arena.start_senders()
    loader = arena.load(pace=100)
    names = ("SMTP_MX", "SMTP_SUBMISSION", "SMTP_SUBMISSIONS")
    ports = choose_ports(dict.fromkeys(names, 0))
    where = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    smtp = arena.start("run_smtp", **where, SMTP_AUTH_FAILURES="10000", LOG_LEVEL="error")
    wait_until(lambda: answers(ports["SMTP_MX"]), PATIENCE, "run_smtp did not listen")
    heard = [Port(ports[name], implicit_tls=name == "SMTP_SUBMISSIONS") for name in names if answers(ports[name])]
    asyncio.run(make_noise(heard, NOISE // 10, seed=1))
    before = smtp.peak_bytes()
    ends = asyncio.run(make_noise(heard, NOISE - NOISE // 10, seed=2))
    smtp.check_alive()
    grown = smtp.peak_bytes() - before
    if ends["hung"] or not answers(ports["SMTP_MX"]):
        raise ChaosError(f"The SMTP server hung: {ends['hung']} connections did not end.")
    if grown > MAY_GROW_BYTES:
        raise ChaosError(f"The SMTP server grew by {grown >> 20} MiB.")
    if told := (arena.folder / "run_smtp.log").read_text(errors="replace").strip():
        raise ChaosError(f"The SMTP server was surprised: {told.splitlines()[0][:300]}")
    loader.join(PATIENCE * 3)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A tmpfs of DISK_MIB; raises LeftOut where mounting is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="relay-chaos-"))
    folder.chmod(0o711)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0711", "tmpfs", str(folder)]
    try:
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
            raise LeftOut("mounting a small tmpfs is not allowed here")
        (folder / "run").mkdir(mode=0o711)
        account_for([folder]).take(folder / "run")
        try:
            yield folder / "run"
        finally:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)  # noqa: S603, S607
    finally:
        os.rmdir(folder)


TRIALS = {
    "kill-at-each-step": Trial("a sender is killed at each step, from claim to settle", kill_at_each_step),
    "kill-everything": Trial("all senders and their supervisor are killed three times", kill_everything),
    "stop-past-the-lease": Trial("a sender stands still for longer than its leases, and wakes", stop_past_the_lease),
    "starve": Trial("each process in turn stands still for four seconds", starve, may_duplicate=False),
    "restart-database": Trial("the database crashes three times in mid-conversation", restart_database),
    "lose-database": Trial("the database is away for a minute in mid-drain", lose_database_for_a_minute, may_duplicate=False),
    "cut-lock-connections": Trial("the senders' lock sessions are terminated", cut_lock_connections, may_duplicate=False),
    "cut-all-connections": Trial("every session of the database is terminated ten times", cut_all_connections),
    "try-now": Trial("“try now” is pressed on mail in flight", press_try_now, may_duplicate=False),
    "deploy": Trial("three rolling deploys", deploy, may_duplicate=False),
    "kill-while-accepting": Trial("the accepting process is killed four times", kill_while_accepting, may_duplicate=False),
    "kill-readers": Trial("the readers of the event log and housekeeping are killed", kill_readers, may_duplicate=False),
    "webhooks": Trial(
        "run_webhooks and the receiver of its calls are killed eight times each, half of them together",
        kill_both_sides, may_duplicate=False, slow=0.02, messages=50_000,
    ),
    "mailbox": Trial(
        "the web, the sequencer, sessions and the database are killed in turn while a mailbox is used", kill_in_turn
    ),
    "lose-replies": Trial("the receiver takes 2 % of the mail without saying so", lose_replies, cut_share=0.02),
    "noise": Trial("20,000 peers of the SMTP server talk nonsense", shout_at_the_way_in, may_duplicate=False),
    "fill-the-disk": Trial("the database's disk is full for ten seconds", fill_the_disk, on_small_disk=True),
}  # fmt: skip
