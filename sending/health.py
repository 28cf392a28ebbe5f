"""What the sending floor has to say about its health."""

from datetime import UTC, datetime, timedelta

from relay_project.db.ids import id_floor, id_soon
from relay_project.health import HealthResult, check, failed, passed
from sending.backlog.depth import oldest_due_seconds
from sending.backlog.ledger import Ledger, read_ledger
from sending.backlog.measure import latest
from sending.inbound.read import SET_ASIDE, measure
from sending.inbound.routing import examine
from sending.models import InboundMail, InboundState
from sending.smtp_servers import HeardOf, heard_of
from sending.statistics.positions import read_lag

UNREAD_SECONDS = 300  # mail that came in is read within a second; after an outage it may take this long
MAX_COUNTED = 1000
UNEXAMINED_SECONDS = 300  # a look at DNS takes seconds; after an outage it may take this long
CERTIFICATE_DAYS = 14  # ACME clients make a new one a month before
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


@check("inbound_routes", roles=("webhooks", "housekeeping"))
def inbound_routes() -> HealthResult:
    """Mail of projects' routes is examined, and told of, soon after."""
    waiting, seconds = examine.measure(datetime.now(UTC))
    data = {"unexamined": waiting, "lag_seconds": round(seconds, 1)}
    if seconds > UNEXAMINED_SECONDS:
        return failed(f"Mail for projects has waited {seconds:.0f} s to be examined: is run_webhooks up?", **data)
    return passed("mail for projects is examined", **data)


@check("smtp_servers", roles=("housekeeping",))
def smtp_servers() -> HealthResult:
    """Each run_smtp that has run lately still does, listens, and has a certificate for a while."""
    now = datetime.now(UTC)
    found = heard_of(now)
    troubles = [f"{one.report.server}: {trouble}" for one in found for trouble in _troubles(one, now)]
    data = {"servers": len(found), "connections": sum(one.report.connections for one in found)}
    if troubles:
        return failed(" ".join(troubles), **data)
    if not found:
        return passed("no run_smtp has run within a day: nothing that comes back by mail is heard", **data)
    return passed("; ".join(map(_in_words, found)), **data)


def _troubles(one: HeardOf, now: datetime) -> list[str]:
    if one.is_silent:
        return [f"run_smtp has not been heard of for {one.age.total_seconds():.0f} s."]
    found = list(one.report.troubles)
    left = _certificate_left(one, now)
    if left is not None and timedelta() < left < timedelta(days=CERTIFICATE_DAYS):
        found.append(f"The certificate expires in {left.days} days.")
    return found


def _certificate_left(one: HeardOf, now: datetime) -> timedelta | None:
    return datetime.fromisoformat(one.report.expires_at) - now if one.report.expires_at else None


def _in_words(one: HeardOf) -> str:
    report = one.report
    until = f"until {report.expires_at[:10]}" if report.expires_at else "self-signed"
    where = ", ".join(report.listeners) or "nowhere"
    return f"{report.server}: {where}; certificate {until}; {report.connections} connections"
