"""What `manage.py verify` looks at: whether an installation is set up so that mail can be sent, and what to mend if not.

Each check is a function that returns `passed` or `failed` with a sentence; nothing is changed, nothing is sent.
"""

import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection, transaction

from accounts import provider
from ips.models import SourceIp
from ips.register import is_public, read_source_ips, server_name
from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.domain_status import look_up
from projects.setup import instance_domain
from relay_project.checks import TAG
from relay_project.db import keyring
from relay_project.db.migrate import missing_migrations
from relay_project.db.partitions import WARNING_DAYS, days_ready
from relay_project.health import Check, HealthResult, failed, passed, run_check
from relay_project.management.commands.rotate_secrets import Column, encrypted_columns
from relay_project.net.addresses import can_bind, host_addresses
from relay_project.net.resolver import NameNotFound, ResolverFailure, txt_records

OLDEST_POSTGRESQL = 15  # UNIQUE NULLS NOT DISTINCT (ips.models.HeldSite)
CLOCK_SKEW_SECONDS = 2.0  # ids and due times come from the database's clock, deadlines from ours
WEB_SECONDS = 5
MAX_SHOWN = 5  # names in one sentence


def configuration() -> HealthResult:
    """Settings that make sense together (relay_project.checks)."""
    found = checks.run_checks(tags=[TAG])
    said = [f"{message.msg} {message.hint or ''}".strip() for message in found]
    if any(message.is_serious() for message in found):
        return failed(" ".join(said))
    return passed(" ".join(["Worth a look:", *said]) if said else "nothing contradicts", warnings=said)


def database() -> HealthResult:
    """Reachable, new enough, UTF-8, with a clock like ours. No extension is needed."""
    with connection.cursor() as cursor:
        started = datetime.now(UTC)
        cursor.execute(
            "SELECT clock_timestamp(), current_setting('server_version_num')::int / 10000,"
            " current_setting('server_version'), pg_encoding_to_char(encoding),"
            " has_schema_privilege(current_schema(), 'CREATE')"
            " FROM pg_database WHERE datname = current_database()"
        )
        theirs, major, version, encoding, may_create = cursor.fetchone()
    ours = started + (datetime.now(UTC) - started) / 2
    skew = abs((theirs - ours).total_seconds())
    if major < OLDEST_POSTGRESQL:
        return failed(f"PostgreSQL {version} is too old: {OLDEST_POSTGRESQL} or newer is needed.")
    if encoding != "UTF8":
        return failed(f"The database is encoded as {encoding}: make one WITH ENCODING 'UTF8'.")
    if not may_create:
        return failed("The account may not create tables: GRANT CREATE ON SCHEMA public, or make it the owner.")
    if skew > CLOCK_SKEW_SECONDS:
        return failed(f"The database's clock is {skew:.1f} s off from this machine's: run NTP on both.")
    return passed(f"PostgreSQL {version}, {encoding}, clocks {skew * 1000:.0f} ms apart")


def migrations() -> HealthResult:
    """All applied."""
    missing = missing_migrations()
    if missing:
        return failed(f"{len(missing)} not applied ({_some(missing)}): run `manage.py migrate` or start a process.")
    return passed("all applied")


def partitions() -> HealthResult:
    """Ready for the coming days."""
    with connection.cursor() as cursor:
        days = days_ready(cursor)
    if days < WARNING_DAYS:
        return failed(f"Ready for {days} days only: run `manage.py migrate`, and keep run_housekeeping running.")
    return passed(f"ready for {days} days")


def dns() -> HealthResult:
    """A resolver answers; which answer does not matter here."""
    which = ", ".join(f"{host}:{port}" for host, port in settings.DNS_RESOLVERS) or "the system's"
    try:
        txt_records(settings.INSTANCE_DOMAIN, settings.DNS_RESOLVERS or None)
    except NameNotFound:
        pass
    except ResolverFailure as failure:
        return failed(f"The resolver ({which}) does not answer ({failure}): mend DNS_RESOLVERS or /etc/resolv.conf.")
    return passed(which)


def instance_record() -> HealthResult:
    """The instance domain's DKIM record is published: it signs every mail."""
    try:
        key = current_key(instance_domain())
    except ObjectDoesNotExist:
        return failed(f"{settings.INSTANCE_DOMAIN} has no key yet: the first start of run_housekeeping makes it.")
    result = look_up(key, datetime.now(UTC))
    if result.verified:
        return passed(dkim_host(key))
    if not result.conclusive:
        return failed(result.error_message or "DNS does not answer.")
    return failed(f"{result.error_message} Publish at {dkim_host(key)} the TXT record: {dkim_txt_value(key)}")


def oidc() -> HealthResult:
    """The provider's discovery document names the issuer that we were told, and its keys can be fetched."""
    if not settings.OIDC_ENABLED:
        return passed("not configured; people sign in with a password")
    try:
        found = provider.fetch_provider(settings.OIDC_ISSUER_URL)
        keys = provider.fetch_keys(found.jwks_uri)
    except provider.ProviderUnavailable as reason:
        return failed(str(reason))
    return passed(f"{found.issuer}, {len(keys)} keys")


def web() -> HealthResult:
    """WEB_URL leads to the running web process."""
    url = f"{settings.WEB_URL}/api/health"
    try:
        with urllib.request.urlopen(url, timeout=WEB_SECONDS) as answer:  # noqa: S310 — WEB_URL is http or https
            status = answer.status
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        return failed(f"{url} does not answer ({reason}): start run_web, mend the proxy, or set WEB_URL.")
    if status != 200:
        return failed(f"{url} answers {status}: does WEB_URL lead to Relay?")
    return passed(urlsplit(settings.WEB_URL).netloc)


def source_ips() -> HealthResult:
    """This machine can send from its source IPs."""
    known = [ip.local_address for ip in SourceIp.objects.filter(server__hostname=server_name(), gone_at=None)]
    wanted = [entry.bind or entry.public for entry in read_source_ips(settings.SOURCE_IPS)]
    addresses = sorted({*known, *wanted}) or [address for address in host_addresses() if is_public(address)]
    if not addresses:
        return failed("This machine has no public address: set SOURCE_IPS (behind NAT: public=local).")
    lost = [address for address in addresses if not can_bind(address)]
    if lost:
        return failed(f"This machine cannot send from {_some(lost)}: add it to an interface, or mend SOURCE_IPS.")
    return passed(_some(addresses))


def secrets() -> HealthResult:
    """Every stored secret can be decrypted with the ring."""
    counts = {column.label: _undecryptable(column) for column in encrypted_columns()}
    lost = {label: bad for label, (bad, _) in counts.items() if bad}
    if lost:
        where = ", ".join(f"{bad} of {label}" for label, bad in lost.items())
        return failed(f"Not readable: {where}. Put the APP_SECRET they were written with into APP_SECRETS_OLD.")
    return passed(f"{sum(total for _, total in counts.values())} stored, all readable")


def _undecryptable(column: Column) -> tuple[int, int]:
    """(how many tokens no key reads, how many there are), by a server-side cursor."""
    quote = connection.ops.quote_name
    bad = total = 0
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(f"SELECT {quote(column.name)} FROM {quote(column.table)}")  # noqa: S608 — names of our models
        for (token,) in cursor:
            if token is not None:
                total += 1
                bad += not _is_readable(token)
    return bad, total


def _is_readable(token: str) -> bool:
    try:
        keyring.decrypt(token)
    except keyring.UndecryptableSecret:
        return False
    return True


def _some(names: Collection[str]) -> str:
    shown = list(names)[:MAX_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


CHECKS: tuple[tuple[str, Callable[[], HealthResult], bool], ...] = (  # name, function, whether it needs tables
    ("configuration", configuration, False),
    ("database", database, False),
    ("migrations", migrations, True),
    ("partitions", partitions, True),
    ("secrets", secrets, True),
    ("dns", dns, False),
    ("instance_record", instance_record, True),
    ("source_ips", source_ips, True),
    ("oidc", oidc, False),
    ("web", web, False),
)
NAMES = tuple(name for name, _, _ in CHECKS)


def run(skip: Collection[str] = ()) -> Iterator[HealthResult]:
    """Run the checks in order, each result as it comes; what needs the tables is not tried without them."""
    has_tables = True
    for name, function, needs_tables in CHECKS:
        if name in skip:
            continue
        if needs_tables and not has_tables:
            yield HealthResult(name, False, "Needs the database with its tables.")
            continue
        result = run_check(Check(name, frozenset(), function))
        if name in {"database", "migrations"}:
            has_tables = has_tables and result.passed
        yield result
