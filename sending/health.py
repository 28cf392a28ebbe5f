"""What the sending floor has to say about its health."""

from datetime import UTC, datetime, timedelta

from relay_project.db.ids import id_floor, id_soon
from relay_project.health import HealthResult, check, failed, passed
from sending.backlog.depth import oldest_due_seconds
from sending.backlog.ledger import Ledger, read_ledger
from sending.backlog.measure import latest
from sending.inbound.read import SET_ASIDE, measure
from sending.models import InboundMail, InboundState
from sending.statistics.positions import read_lag

UNREAD_SECONDS = 300  # mail that came in is read within a second; after an outage it may take this long
MAX_COUNTED = 1000
SET_ASIDE_HOURS = 24  # so long a mail that was set aside is told of
UNCOUNTED_SECONDS = 300  # the readers look every second; catching up after an outage may take this long
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


@check("statistics", roles=("webhooks", "housekeeping"))
def statistics() -> HealthResult:
    """What happened is counted, and what was accepted can be found, soon after."""
    lag = read_lag()
    data = {f"{reader}_seconds": round(seconds, 1) for reader, seconds in lag.items()}
    if max(lag.values()) > UNCOUNTED_SECONDS:
        return failed(f"Statistics and searches are {max(lag.values()):.0f} s behind: is run_webhooks up?", **data)
    return passed("up to date", **data)


@check("inbound", roles=("webhooks", "housekeeping"))
def inbound() -> HealthResult:
    """What came in is read soon after, and nothing was set aside for an error of ours."""
    now = datetime.now(UTC)
    unread, seconds = measure(now)
    set_aside = InboundMail.objects.filter(
        pk__gte=id_floor(now - timedelta(hours=SET_ASIDE_HOURS)),
        pk__lt=id_soon(now),
        state=InboundState.TROUBLE,
        trouble__startswith=SET_ASIDE,
    )[:MAX_COUNTED].count()
    data = {"unread": unread, "lag_seconds": round(seconds, 1), "set_aside": set_aside}
    if seconds > UNREAD_SECONDS:
        return failed(f"Mail that came in has been unread for {seconds:.0f} s: is run_webhooks up?", **data)
    if set_aside:
        return failed(f"{set_aside} mails that came in were set aside lately: read their trouble in the admin.", **data)
    return passed("what came in is read", **data)
