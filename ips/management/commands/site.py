"""`manage.py site`: receiving sites that are held or limited, and what staff order there, from the machine itself."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.audit import at_the_machine
from ips import sites
from ips.models import HeldSite, SiteLimit, SourceIp
from relay_project.mail.mx import site_of
from relay_project.mail.rates import Limits

MOST = 200  # lines of a list
CLOSE = 3  # names offered for one that is not known
LIMITS = {
    "connections": "at once",
    "messages_per_connection": "messages on one connection",
    "per_second": "messages a second",
    "per_minute": "messages a minute",
    "per_hour": "messages an hour",
}


class Command(BaseCommand):
    help = "Show held and limited sites; pause, resume, flush, limit them, or forget what they taught."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help="held sites, pauses, limits and lessons")
        _of_site(actions, "pause", "start no more mail there").add_argument(
            "--reason", required=True, help="kept in the audit log"
        )
        _of_site(actions, "resume", "let mail go there again")
        _of_site(actions, "flush", "end the pauses that its replies led to")
        _of_site(actions, "forget", "forget what it taught, its pace as well")
        limit = _of_site(actions, "limit", "what one source IP may do there; what is not named is not limited by this")
        for name, help_text in LIMITS.items():
            limit.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=help_text)
        limit.add_argument("--none", action="store_true", help="take the limits back")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what was done."""
        if options["action"] == "list":
            for line in _lines(datetime.now(UTC)):
                self.stdout.write(line)
            return
        site, source_ip = options["site"].strip().lower(), _source_ip(options["ip"])
        if not site or len(site) > sites.MAX_SITE:
            raise CommandError(f"SITE: name a provider or MX hosts, in at most {sites.MAX_SITE} characters.")
        by = {"source_ip": source_ip, "actor": None, "now": datetime.now(UTC), "actor_label": at_the_machine()}
        where = f"{site} from {source_ip or 'every source IP'}"
        note = _stranger(site) if options["action"] in ("pause", "limit") else ""
        self.stdout.write(getattr(self, f"_{options['action']}")(site, where, by, options))
        if note:
            self.stderr.write(note)

    def _pause(self, site: str, where: str, by: dict[str, Any], options: dict[str, Any]) -> str:
        if not options["reason"].strip():
            raise CommandError("--reason: say why; it is kept in the audit log.")
        return f"{where} {'is' if sites.pause_site(site, reason=options['reason'], **by) else 'was already'} paused."

    def _resume(self, site: str, where: str, by: dict[str, Any], options: dict[str, Any]) -> str:
        return f"{where} is resumed." if sites.resume_site(site, **by) else f"{where} was not paused."

    def _flush(self, site: str, where: str, by: dict[str, Any], options: dict[str, Any]) -> str:
        ended = sites.flush(site, **by)
        return f"{where}: {_count(ended, 'pause')} ended." if ended else f"{where} was not left alone after a reply."

    def _forget(self, site: str, where: str, by: dict[str, Any], options: dict[str, Any]) -> str:
        forgotten = sites.forget_learned(site, **by)
        return f"{where}: {_count(forgotten, 'lesson')} forgotten." if forgotten else f"{where} had taught nothing."

    def _limit(self, site: str, where: str, by: dict[str, Any], options: dict[str, Any]) -> str:
        limits = Limits(**{name: options[name] for name in LIMITS})
        if (limits == Limits()) != options["none"]:
            raise CommandError("Name at least one limit, or --none alone to take them back.")
        for name in LIMITS:
            if options[name] is not None and not 1 <= options[name] <= sites.MAX_LIMIT:
                option, most = f"--{name.replace('_', '-')}", f"{sites.MAX_LIMIT:,}"
                raise CommandError(f"{option}: a limit is from 1 to {most}; to let nothing go there, pause the site.")
        changed = sites.set_limits(site, limits, **by)
        words = _words({name: options[name] for name in LIMITS}) or "no limits of its own"
        return f"{where}: {words}." if changed else f"{where}: nothing has changed."


def _of_site(actions: Any, name: str, help_text: str) -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(name, help=help_text)
    parser.add_argument("site", help="a provider such as google, or MX hosts in order, joined by commas")
    parser.add_argument("--ip", metavar="ADDRESS", help="only from this source IP")
    return parser


def _source_ip(address: str | None) -> SourceIp | None:
    if address is None:
        return None
    found = [one for one in SourceIp.objects.all() if one.address == address.strip()]
    if not found:
        raise CommandError(f"--ip: there is no source IP {address!r}.")
    return found[0]


def _stranger(site: str) -> str:
    """What to say of a name under which nothing is known, in case it is mistyped; it may be the name of a site to come."""
    known = sites.known_sites()
    if site in known:
        return ""
    provider = site_of(site.split(","))  # of an MX host of theirs
    close = [provider] if provider in known else get_close_matches(site, sorted(known), n=CLOSE)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"Note: no provider, held site or limit is known by the name {site}.{meant}"


def _lines(now: datetime) -> list[str]:
    held = HeldSite.objects.filter(sites.held_now(now)).select_related("queue", "source_ip").order_by("next_slot")
    rows = SiteLimit.objects.select_related("source_ip")[:MOST]
    lines = [
        f"held     {one.site}  queue {one.queue}  {one.source_ip or 'any source IP'}  "
        f"next slot {one.next_slot:%H:%M:%S} UTC  {one.reason}"
        for one in held[:MOST]
    ]
    return [*lines, *(line for row in rows for line in _of_row(row, now))] or ["No site is held, paused or limited."]


def _of_row(row: SiteLimit, now: datetime) -> list[str]:
    where = f"{row.site}  {row.source_ip or 'every source IP'}"
    lines = []
    if row.paused_at:
        lines.append(f"paused   {where}  since {row.paused_at:%Y-%m-%d %H:%M} UTC  {row.pause_reason}")
    if words := _words({name: getattr(row, name) for name in LIMITS}):
        lines.append(f"limited  {where}  {words}")
    if row.learned_at:
        lesson = _words({"connections": row.learned_connections, "per_minute": row.learned_per_minute})
        alone = row.back_off_until
        until = f"  left alone until {alone:%H:%M:%S} UTC" if alone is not None and alone > now else ""
        lines.append(f"learned  {where}  {lesson or 'no pace'}{until}  “{row.learned_reply}”")
    return lines


def _words(limits: dict[str, int | None]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in limits.items() if value is not None)


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
