"""`manage.py classify "550 5.1.1 …"`: what a reply means to Relay, which row decides, and where that is written."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from relay_project.mail.classify import Verdict, classify, is_throttle, source_of
from relay_project.mail.reply import MalformedReply, Stage, parse_reply


class Command(BaseCommand):
    """Asks the table; nothing is sent and no database is needed."""

    help = "Say what an SMTP reply means, and why."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The reply, and what surrounds it."""
        parser.add_argument("reply", nargs="+", help='the reply\'s lines, each in quotes: "550 5.1.1 No such user"')
        parser.add_argument("--stage", choices=[stage.value for stage in Stage], default=Stage.RCPT.value)
        parser.add_argument(
            "--recipients", type=int, default=1, help="of the transaction; after DATA one reply is for all"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the verdict."""
        stage = Stage(options["stage"])
        if options["recipients"] < 1:
            raise CommandError("--recipients: a transaction has at least 1.")
        try:
            reply = parse_reply([line.encode("utf-8", "surrogateescape") for line in options["reply"]])
        except MalformedReply as error:
            hint = "Each argument is a line; put a whole line in quotes." if len(options["reply"]) > 1 else ""
            raise CommandError(f"This is no SMTP reply: {error}. {hint}".rstrip()) from error
        verdict = classify(stage, reply, recipients=options["recipients"])
        for name, value in _lines(verdict, is_throttle(stage, reply)):
            self.stdout.write(f"{name:<12}{value}")


def _lines(verdict: Verdict, throttle: bool) -> list[tuple[str, str]]:
    """What is printed: (name, value)."""
    cause = f" ({verdict.cause})" if verdict.cause else ""
    return [
        ("outcome", verdict.outcome.value),
        ("category", f"{verdict.category}{cause}"),
        ("suppresses", "yes" if verdict.suppress else "after some days of it" if verdict.soft else "no"),
        ("slows down", "yes" if throttle else "no"),
        ("rule", verdict.rule),
        ("source", source_of(verdict.rule)),
    ]
