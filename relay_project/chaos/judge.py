"""What a trial cost the mail: lost, stuck, copies too many, and whether RFC 1047's window explains those."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from relay_project.chaos.arena import Arena, ChaosError, wait_until
from relay_project.chaos.trials import Told, Trial, small_disk
from relay_project.chaos.witness import Witness
from relay_project.db.embedded import make_temporary_folder

SETTLED_SECONDS = 120.0  # from the end of the misfortune to an empty backlog: leases and retries have come by then
FED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of a trial. A duplicate is `unexplained` unless its first copy's result never reached the database."""

    says: str
    accepted: int
    doubtful: int  # accepting failed with an error: may or may not have been taken
    arrived: int
    lost: int  # accepted, neither arrived nor ended with a reason that is shown
    stuck: int  # still waiting, or not in the ledger
    duplicates: int
    unexplained: int
    lost_attempts: int  # written off by the sweeper, and counted
    events_lost: int  # without a position in the feed
    may_duplicate: bool
    seconds: float
    told: Told | None = None  # where the trial asks for that

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        excess = self.unexplained or (self.duplicates and not self.may_duplicate)
        is_told = self.told is None or self.told.is_good
        return is_told and not (self.lost or self.stuck or excess or self.events_lost)

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        record = {name: value for name, value in asdict(self).items() if name != "told"}
        told = {} if self.told is None else {"told": self.told.as_record()}
        return {**record, **told, "is_good": self.is_good}


def judge(trial: Trial, messages: int) -> Verdict:
    """Run one trial. Raises ChaosError where it could not take place, LeftOut where this machine cannot."""
    began = time.monotonic()
    witness = Witness(trial.slow, trial.cut_share)
    with _folder(trial) as folder, Arena(folder, messages, witness) as arena:
        ask = trial.act(arena)
        report = _settle(arena)
        told = ask() if ask else None
        return replace(_verdict(trial, arena, report, time.monotonic() - began), told=told)


@contextmanager
def _folder(trial: Trial) -> Iterator[Path]:
    if trial.on_small_disk:
        with small_disk() as folder:
            yield folder
        return
    base = make_temporary_folder()
    with tempfile.TemporaryDirectory(dir=base, prefix="arena-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
    base.rmdir()


def _settle(arena: Arena) -> dict[str, Any]:
    """Wait for the backlog to empty, and for the sequencer where one runs; what is left then is stuck."""
    give_up = time.monotonic() + SETTLED_SECONDS
    while arena.query("SELECT count(*) FROM sending_waiting")[0][0] and time.monotonic() < give_up:
        time.sleep(0.2)
    arena.start("run_webhooks")
    wait_until(lambda: not arena.query("SELECT 1 FROM projects_eventoutbox LIMIT 1"), FED_SECONDS, "Events were left")
    return arena.ask("report")


def _verdict(trial: Trial, arena: Arena, report: dict[str, Any], seconds: float) -> Verdict:
    accepted = set().union(*(loader.accepted for loader in arena.loaders))
    if not accepted:
        raise ChaosError("Nothing was accepted, so nothing could be lost.")
    doubtful = set().union(*(loader.doubtful for loader in arena.loaders))
    copies = dict(arena.witness.copies)
    states = {int(number): state for number, state in report["states"].items()}
    lost_attempts = {int(number): count for number, count in report["lost_attempts"].items()}
    ended = {number for number, state in states.items() if state in ("bounced", "failed", "cancelled", "suppressed")}
    excess = {number: count - 1 for number, count in copies.items() if count > 1}
    known = {number: lost_attempts.get(number, 0) + arena.witness.unanswered[number] for number in excess}
    return Verdict(
        says=trial.says,
        accepted=len(accepted),
        doubtful=len(doubtful),
        arrived=len(copies),
        lost=len(accepted - copies.keys() - ended) + len(accepted - states.keys()),
        stuck=report["waiting"] + report["silent"] + report["stray"],
        duplicates=sum(excess.values()),
        unexplained=sum(max(count - known[number], 0) for number, count in excess.items()),
        lost_attempts=sum(lost_attempts.values()),
        events_lost=report["unsequenced"] + abs(report["events"] - report["fed"]),
        may_duplicate=trial.may_duplicate,
        seconds=round(seconds, 1),
    )
