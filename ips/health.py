"""Health of the way out: every queue has an address, and somebody serves the addresses."""

from django.db import connection
from django.utils import timezone

from ips.incident_figures import read_open
from ips.register import REGISTER_SECONDS
from relay_project.health import HealthResult, check, failed, passed

SILENT_SECONDS = 15  # without a heartbeat (one a second); a restart of the database takes less

_QUEUES = """
SELECT q.name, q.is_default, count(i.id) FROM queues_queue q
  LEFT JOIN ips_sourceip i ON i.queue_id = q.id AND i.is_enabled AND i.gone_at IS NULL
 GROUP BY q.id ORDER BY q.id
"""
_SENDERS = """
SELECT (SELECT count(*) FROM ips_sender WHERE heartbeat_at > clock_timestamp() - make_interval(secs => %(silent)s)),
       (SELECT count(*) FROM ips_sourceip WHERE is_enabled AND gone_at IS NULL AND queue_id IS NOT NULL),
       (SELECT count(*) FROM ips_sourceip i JOIN ips_sender s ON s.id = i.served_by_id
         WHERE i.is_enabled AND i.gone_at IS NULL AND i.queue_id IS NOT NULL
           AND s.heartbeat_at > clock_timestamp() - make_interval(secs => %(silent)s))
"""
_POLICIES = """
SELECT count(*) FILTER (WHERE failing_since < %(now)s - interval '1 day'),
       count(*) FILTER (WHERE fetched_at > %(now)s - interval '2 days')
  FROM ips_mtastspolicy WHERE used_at > %(now)s - interval '30 days'
"""
FAILING_POLICIES = 3  # domains; one or two have their own trouble, and none that we could mend


@check("queue_ips", roles=("housekeeping",))
def queue_ips() -> HealthResult:
    """Every queue has a usable source IP; a default queue without one borrows the other's, which is said."""
    with connection.cursor() as cursor:
        cursor.execute(_QUEUES)
        queues = cursor.fetchall()
    data = {name: count for name, _, count in queues}
    lendable = any(count for _, is_default, count in queues if is_default)
    stuck = [name for name, is_default, count in queues if not count and not (is_default and lendable)]
    if stuck:
        detail = f"No usable source IP for {', '.join(stuck)}: its mail waits. Set SOURCE_IPS or assign an IP."
        return failed(detail, ips=data)
    borrowing = [name for name, _, count in queues if not count]
    if borrowing:
        return passed(f"{', '.join(borrowing)} has no source IP of its own and borrows one", ips=data)
    return passed("every queue has a source IP", ips=data)


_CONTESTED_ADDRESSES = """
SELECT host(i.address), v.hostname, o.hostname FROM ips_sourceip i
  JOIN ips_server v ON v.id = i.server_id JOIN ips_server o ON o.id = i.contested_by_id
 WHERE i.contested_at > clock_timestamp() - make_interval(secs => %(lately)s) ORDER BY i.id
"""
_CONTESTED_NAMES = """
SELECT hostname FROM ips_server WHERE contested_at > clock_timestamp() - make_interval(secs => %(lately)s) ORDER BY id
"""
CONTESTED_SECONDS = 3 * REGISTER_SECONDS  # a machine says so each time it registers


@check("source_addresses", roles=("housekeeping",))
def source_addresses() -> HealthResult:
    """No two machines name the same source IP, or go by the same name."""
    with connection.cursor() as cursor:
        cursor.execute(_CONTESTED_NAMES, {"lately": CONTESTED_SECONDS})
        names = [name for (name,) in cursor.fetchall()]
        cursor.execute(_CONTESTED_ADDRESSES, {"lately": CONTESTED_SECONDS})
        contested = cursor.fetchall()
    if names:
        return failed(f"Two machines go by the name {names[0]}: give each a SERVER_NAME of its own.", names=names)
    if contested:
        address, has_it, wants_it = contested[0]
        detail = f"{address} is named by {has_it}, which has it, and by {wants_it}: take it out of one's SOURCE_IPS."
        return failed(detail, addresses=[row[0] for row in contested])
    return passed("every source IP belongs to one machine")


@check("senders", roles=("housekeeping",))
def senders() -> HealthResult:
    """At least one sender lives, and every usable source IP is served."""
    with connection.cursor() as cursor:
        cursor.execute(_SENDERS, {"silent": SILENT_SECONDS})
        alive, usable, served = cursor.fetchone()
    data = {"senders": alive, "usable_ips": usable, "served_ips": served}
    if not alive:
        return failed("No sender is running, so mail waits: start run_senders.", **data)
    if served < usable:
        return failed(f"{usable - served} of {usable} source IPs are served by no sender.", **data)
    return passed(f"senders: {alive}, source IPs they serve: {served}", **data)


@check("incidents", roles=("housekeeping",))
def incidents() -> HealthResult:
    """Nobody refuses our addresses without staff knowing."""
    found = read_open(timezone.now())
    causes = ", ".join(f"{cause}: {number}" for cause, number in sorted(found.by_cause.items()))
    if found.alarming:
        detail = f"Receivers refuse our mail, and nobody has acknowledged it: incidents {found.alarming} ({causes})."
        return failed(detail, **found.by_cause)
    return passed(f"open incidents: {found.total}" + (f" ({causes})" if causes else ""), **found.by_cause)


@check("tls_policies", roles=("housekeeping",))
def tls_policies() -> HealthResult:
    """MTA-STS policies can be fetched. A domain's own trouble is said; that of all at once is ours."""
    with connection.cursor() as cursor:
        cursor.execute(_POLICIES, {"now": timezone.now()})
        failing, fetched = cursor.fetchone()
    data = {"failing_for_a_day": failing, "fetched_in_two_days": fetched}
    if failing >= FAILING_POLICIES and not fetched:
        return failed("No MTA-STS policy could be fetched for days: is HTTPS (port 443) open on the way out?", **data)
    return passed(f"policies fetched in two days: {fetched}, failing for a day: {failing}", **data)
