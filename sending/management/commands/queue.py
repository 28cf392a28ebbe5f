"""`manage.py queue`: what waits in the queues, and the orders of staff over it, from the machine itself."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.audit import at_the_machine
from projects.models import Project
from queues.models import Queue
from queues.pause import pause, resume
from relay_project.mail.address import InvalidDomain
from sending.backlog import orders
from sending.backlog.depth import Depth, read_depths
from sending.backlog.orders import By, Order, OrderRefused
from sending.backlog.stretch import Wanted, count, read_domain
from sending.models import Operation, OperationKind

STEP_SECONDS = 5.0  # between two lines about a long order
OPTIONS = {"to": "--to", "reason": "--reason", "scheduled": "--scheduled"}  # by the field that a rule refuses


class Command(BaseCommand):
    help = "Show queues; pause, resume, flush, reroute and purge them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help="what waits in each queue")
        paused = actions.add_parser("pause", help="start no more mail; what is in flight ends")
        paused.add_argument("queue")
        paused.add_argument("--reason", required=True, help="kept in the audit log")
        actions.add_parser("resume", help="start mail again").add_argument("queue")
        flush = _order(actions, "flush", "what waits for a time is due now; limits of sites hold")
        flush.add_argument("--scheduled", action="store_true", help="mail that was scheduled as well")
        reroute = _order(actions, "reroute", "what waits goes by another queue")
        reroute.add_argument("--to", required=True, metavar="QUEUE", help="where it shall wait")
        purge = _order(actions, "purge", "what waits is cancelled for good")
        purge.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what was done."""
        action, now = options["action"], datetime.now(UTC)
        if action == "list":
            for line in table([_figures(depth) for depth in read_depths(now)]):
                self.stdout.write(line)
        elif action in ("pause", "resume"):
            self._pause(action, _queue(options["queue"], "QUEUE"), options, now)
        else:
            self._order(OperationKind(action), options, now)

    def _pause(self, action: str, queue: Queue, options: dict[str, Any], now: datetime) -> None:
        if action == "pause":
            if not options["reason"].strip():
                raise CommandError("--reason: say why; it is kept in the audit log.")
            done = pause(queue, reason=options["reason"], actor=None, now=now, actor_label=at_the_machine())
        else:
            done = resume(queue, actor=None, now=now, actor_label=at_the_machine())
        was = "is" if done else "was already"
        self.stdout.write(f"{queue} {was} {'paused' if action == 'pause' else 'running'}.")

    def _order(self, kind: OperationKind, options: dict[str, Any], now: datetime) -> None:
        wanted = _wanted(options)
        if kind != OperationKind.FLUSH and wanted.is_whole_queue and not options["all"]:
            raise CommandError(f"Say what to {kind}: --project, --domain or --site, or --all for the whole queue.")
        target = _queue(options["to"], "--to") if options.get("to") else None
        order = Order(kind, wanted, options["reason"], target, options.get("scheduled", False))
        counted = count(wanted)
        self.stdout.write(f"{options['queue']}: {counted or 'how much fits takes too long to count'}.")
        if options["dry_run"]:
            return
        if kind == OperationKind.PURGE and not options["yes"]:
            _ask("Cancel it for good? Type yes: ")
        try:
            operation = orders.give(order, By(label=at_the_machine()), now)
        except OrderRefused as refused:
            raise CommandError(f"{OPTIONS.get(refused.field, refused.field)}: {refused}") from None
        self._carry_out(operation)

    def _carry_out(self, operation: Operation) -> None:
        """To the end; whoever interrupts it takes the rest back."""
        try:
            while not orders.run(operation, STEP_SECONDS):
                self.stdout.write(f"  {operation.done:,} so far")
        except KeyboardInterrupt:
            orders.stop(operation, By(label=at_the_machine()), datetime.now(UTC))
            raise CommandError(f"Stopped; the rest is left as it was. {told(operation)}") from None
        self.stdout.write(told(operation))


def _order(actions: Any, name: str, help_text: str) -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(name, help=help_text)
    parser.add_argument("queue")
    parser.add_argument("--project", metavar="ID_OR_NAME", help="only mail of this project")
    parser.add_argument("--domain", default="", help="only mail to this domain")
    parser.add_argument("--site", default="", help="only mail that hangs on this site, or was last tried there")
    parser.add_argument("--all", action="store_true", help="everything in the queue")
    parser.add_argument("--reason", required=True, help="kept in the audit log; of a purge shown to whose mail it is")
    parser.add_argument("--dry-run", action="store_true", help="only say how much it would be")
    return parser


def _wanted(options: dict[str, Any]) -> Wanted:
    queue, project = _queue(options["queue"], "QUEUE"), options["project"]
    if options["all"] and (project or options["domain"] or options["site"]):
        raise CommandError("--all goes with neither --project, --domain nor --site.")
    try:
        domain, site = read_domain(options["domain"]), options["site"].strip().lower()
    except InvalidDomain as error:
        raise CommandError(f"--domain: {options['domain']!r} is {error}.") from None
    return Wanted(queue.pk, _project(project).pk if project else None, domain, site)


def _queue(name: str, option: str) -> Queue:
    found = Queue.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(Queue.objects.values_list("name", flat=True)) or "there are none yet"
        raise CommandError(f"{option}: there is no queue {name!r}. The queues: {names}.")
    return found


def _project(text: str) -> Project:
    rows = (
        Project.objects.filter(pk=int(text)) if text.isascii() and text.isdigit() else Project.objects.filter(name=text)
    )
    found = list(rows[:2])
    if len(found) == 1:
        return found[0]
    how_many = "several projects are" if found else "no project is"
    raise CommandError(f"--project: {how_many} named {text!r}; give its id.")


def _ask(question: str) -> None:
    try:
        answer = input(question)
    except EOFError:
        raise CommandError("Nobody is there to confirm; --yes does without.") from None
    if answer.strip().lower() != "yes":
        raise CommandError("Nothing was done.")


def told(operation: Operation) -> str:
    """How far an order is."""
    words = {"flush": "due now", "reroute": f"moved to {operation.target}", "purge": "cancelled"}[operation.kind]
    left = f"; left in flight: {operation.left_in_flight:,}" if operation.left_in_flight else ""
    left += f"; left as scheduled: {operation.left_scheduled:,}" if operation.left_scheduled else ""
    return f"{operation.done:,} {words}{left}."


def _figures(depth: Depth) -> list[str]:
    queue = Queue.objects.get(name=depth.queue_name)
    state = f"paused: {queue.pause_reason or 'no reason given'}" if queue.paused_at else "running"
    numbers = (depth.due, depth.later, depth.held, depth.in_flight)
    return [depth.queue_name, *(f"{number:,}" for number in numbers), f"{depth.oldest_due_seconds:.0f} s", state]


def table(rows: list[list[str]]) -> list[str]:
    """Rows under their headings."""
    cells = [["queue", "due", "later", "held", "in flight", "oldest due", "state"], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
