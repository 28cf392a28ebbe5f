"""`manage.py quickstart`: everything on one machine, and the first mail on its way through it.

PostgreSQL (unless DATABASE_URL names one) → migrations → the product's processes → a demo project → one mail sent
through the HTTP API, its journey printed. Then it watches over the processes until Ctrl-C. With --once it ends there.
"""

import logging
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from relay_project.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.quickstart import demo, environment, first_mail, processes, terminal
from relay_project.quickstart.home import Home, QuickstartError
from relay_project.quickstart.terminal import BOLD, DIM, GREEN, Terminal
from relay_project.supervise import Death, Supervisor, sigterm_as_interrupt

PORT_LIMIT = 65535
DATABASE_PAUSE_SECONDS = 5.0  # between tries to start a database that has ended
STARTS = 3  # a process that ends as often before all are ready will not come up by itself
INTERRUPTED = 130  # 128 + SIGINT, as shells say it


class Command(BaseCommand):
    """See the module."""

    help = "Run all of Relay on this machine and send a first mail through it."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's signature; the processes check themselves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=_port, help="The console's port (8000).")
        parser.add_argument("--home", type=Path, default=settings.RELAY_HOME, help="Data, secrets, logs (.relay).")
        parser.add_argument("--once", action="store_true", help="On free ports; end when the mail has arrived.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; every refusal is one sentence and exit code 1."""
        home = Home(options["home"].absolute())
        try:
            if not environment.is_prepared():
                kept = Home(settings.RELAY_HOME).read_env()
                environment.enter_second_pass(home, kept, options["port"], options["once"])
            logging.getLogger().setLevel(logging.WARNING)  # the children have logs; here a newcomer reads
            with sigterm_as_interrupt(), home.lock():
                Run(home, Terminal(sys.stdout), options["once"]).go()
        except (QuickstartError, EmbeddedPostgresError, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


class Run:
    """One quickstart."""

    def __init__(self, home: Home, out: Terminal, once: bool) -> None:
        self.home = home
        self.out = out
        self.once = once
        self.base_url = "http://{}:{}".format(*settings.WEB_BIND)
        self.database_retry_at = 0.0
        self.is_ready = False
        self.deaths: Counter[str] = Counter()

    def go(self) -> None:
        """Start all, send the mail, and watch until asked to stop (or stop at once)."""
        began = time.monotonic()
        self.out.say("Relay quickstart", BOLD)
        with self._database() as database:
            applied = migrate_if_needed()
            demo.make_instance(datetime.now(UTC))
            self.out.step("Migrations", f"{applied} applied" if applied else "nothing to do")
            supervisor = Supervisor(processes.programs(settings.BASE_DIR), self.home.logs, self._tell_death)
            try:
                supervisor.start()
                self._first_mail(supervisor)
                self.out.say(f"  Done in {time.monotonic() - began:.1f} s.", GREEN)
                connections.close_all()  # nothing more is asked; the children have their own
                if not self.once:
                    self.out.say("  Ctrl-C stops everything; the next run goes on with the same data.")
                    supervisor.run(lambda: self._keep_database(database))
            finally:
                self._stop(supervisor)

    @contextmanager
    def _database(self) -> Iterator[EmbeddedPostgres | None]:
        database = environment.own_postgres(self.home)
        if database is None:
            self.out.step("Database", "the one that DATABASE_URL names")
            yield None
            return
        fresh = not database.data.exists()
        with database:
            self.out.step("PostgreSQL", f"{'made' if fresh else 'found'} its data in {database.data}")
            yield database

    def _first_mail(self, supervisor: Supervisor) -> None:
        processes.wait_until_ready(supervisor, settings.PROBES, self._tell_ready)
        self.is_ready = True
        given = demo.make_demo(self.home, datetime.now(UTC))
        self.out.step("Domain", f"{given.domain.domain} is verified: its DKIM key is in the sandbox's DNS")
        self.out.say()
        self.out.say(f"  The first mail, from {first_mail.SENDER} to {first_mail.RECIPIENT}", BOLD)
        self.out.say()
        answer = first_mail.post(self.base_url, given.api_key)
        arrival = first_mail.follow(answer, supervisor.tick)
        terminal.tell_arrival(self.out, arrival, self.base_url)
        if not arrival.is_signed:
            raise QuickstartError("The first mail has arrived, but its signatures are not valid.")
        self.out.say()
        if not self.once:
            link = demo.sign_in_link(given, self.base_url, datetime.now(UTC))
            terminal.tell_how_to_go_on(self.out, self.base_url, link, given.api_key, self.home.logs)

    def _tell_ready(self, name: str, seconds: float) -> None:
        host, port = settings.WEB_BIND if name == "web" else settings.PROBES[name]
        self.out.step(name, f"ready after {seconds:.1f} s, http://{host}:{port}")

    def _tell_death(self, death: Death) -> None:
        terminal.tell_death(self.out, death, f"see {self.home.logs / death.name}.log")
        self.deaths[death.name] += 1
        if not self.is_ready and self.deaths[death.name] >= STARTS:
            raise QuickstartError(f"{death.name} does not start; {self.home.logs / death.name}.log says why.")

    def _keep_database(self, database: EmbeddedPostgres | None) -> None:
        """Start the embedded server again when it has ended; the processes wait for it meanwhile."""
        if database is None or database.is_running or time.monotonic() < self.database_retry_at:
            return
        self.database_retry_at = time.monotonic() + DATABASE_PAUSE_SECONDS
        try:
            database.start()
            self.out.say("  PostgreSQL had ended and runs again.")
        except EmbeddedPostgresError as error:
            self.out.say(f"  {error}")

    def _stop(self, supervisor: Supervisor) -> None:
        self.out.say("  Stopping …", DIM)
        for name in supervisor.stop():
            self.out.say(f"  {name} did not stop in time and was killed.")


def _port(text: str) -> int:
    port = int(text) if text.isdigit() else 0
    if not 0 < port <= PORT_LIMIT:
        raise ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to {PORT_LIMIT}")
    return port
