"""What the sending floor has to say about its health."""

from datetime import UTC, datetime

from relay_project.health import HealthResult, check, failed, passed
from sending.backlog.depth import oldest_due_seconds
from sending.backlog.ledger import Ledger, read_ledger
from sending.backlog.measure import latest

OLDEST_DUE_SECONDS = 300  # mail that could leave has not for this long: senders are missing or overwhelmed


@check("ledger", roles=("housekeeping",))
def ledger() -> HealthResult:
    """No silent mail, as housekeeping read it last; read anew where it has not."""
    measured = latest("ledger", datetime.now(UTC))
    found = Ledger(**measured.value) if measured else read_ledger()
    data = {"silent": found.silent, "stray": found.stray, "overdue": found.overdue}
    data["age_seconds"] = round(measured.age.total_seconds()) if measured else 0
    if not found.is_good:
        return failed(f"{found.silent} recipients wait nowhere, {found.stray} waiting rows belong to nobody.", **data)
    if found.overdue:
        return failed(f"{found.overdue} rows came due and no sender looked: is run_senders up?", **data)
    return passed("every recipient that is not final waits in exactly one place", **data)


@check("backlog", roles=("housekeeping",))
def backlog() -> HealthResult:
    """Nothing that could leave stands for long."""
    worst = oldest_due_seconds(datetime.now(UTC))
    data = {"oldest_due_seconds": round(worst, 1)}
    if worst > OLDEST_DUE_SECONDS:
        return failed(f"Mail has been due for {worst:.0f} s without leaving.", **data)
    return passed("nothing due stands for long", **data)
