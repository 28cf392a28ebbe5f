"""The environment of a run: what the user gave, the kept secrets, and what this run chose.

Settings are read once, when Django starts, and the quickstart finds out only afterwards what they should be. So it
works in two passes: the first chooses and replaces itself by the second (exec), whose settings are right at once.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from relay_project.db.embedded import EmbeddedPostgres
from relay_project.quickstart.home import Home, QuickstartError
from relay_project.quickstart.ports import LOOPBACK, USUAL, choose_ports, is_free

PREPARED = "RELAY_QUICKSTART_PID"  # set by the first pass; exec keeps the pid
SECRETS = ("APP_SECRET", "POSTGRES_PASSWORD")
INSTANCE_DOMAIN = "relay.test"  # RFC 6761: .test never leaves the machine
SOURCE_IPS = "127.0.0.2,127.0.0.3"  # all of 127/8 is this machine: one for each default queue


def is_prepared() -> bool:
    """Return whether this is the second pass."""
    return os.environ.get(PREPARED) == str(os.getpid())


def enter_second_pass(home: Home, read_by_settings: Mapping[str, str], port: int | None, once: bool) -> None:
    """Choose what is not given, keep the secrets, and start over with settings that say so; does not return.

    `read_by_settings` is what settings.py has itself put into the environment: the last run's choice, not an order.
    """
    home.make()
    with home.lock():
        kept = home.read_env()
        own = {name: kept.get(name) or secrets.token_urlsafe(32) for name in SECRETS}
        values = own | choose(home, own["POSTGRES_PASSWORD"], port, once)
        home.write_env(values | {name: kept[name] for name in kept if once})
    given = {
        name: os.environ[name] for name in values if os.environ.get(name) not in (None, read_by_settings.get(name))
    }
    given.pop("WEB_BIND", None)  # --port says it
    environment = {**os.environ, **values, **given, "RELAY_HOME": str(home.folder), PREPARED: str(os.getpid())}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - no shell is meant


def choose(home: Home, password: str, port: int | None, once: bool) -> dict[str, str]:
    """Return this run's settings. Without `once` the usual ports are preferred; the console's must be free."""
    preferred = dict.fromkeys(USUAL, 0) if once else dict(USUAL)
    if port is not None or not once:
        preferred["WEB_BIND"] = port or USUAL["WEB_BIND"]
        if not is_free(preferred["WEB_BIND"]):
            raise QuickstartError(
                f"Port {preferred['WEB_BIND']} is taken by another program: stop that, or choose one by --port."
            )
    ports = choose_ports(preferred)
    return {
        "DATABASE_URL": EmbeddedPostgres(home.data, password=password).url,
        "INSTANCE_DOMAIN": INSTANCE_DOMAIN,
        "SERVER_NAME": "quickstart",
        "SOURCE_IPS": SOURCE_IPS,
        "WEB_URL": f"http://{LOOPBACK}:{ports['WEB_BIND']}",
        "DNS_RESOLVERS": f"{LOOPBACK}:{ports['SANDBOX_DNS']}",
        "OUTGOING_SMTP_PORT": str(ports["SANDBOX_SMTP"]),
        "SANDBOX_INTERNET": "true",
        "SHUTDOWN_SECONDS": "10",  # less than the supervisor waits
        **{name: f"{LOOPBACK}:{number}" for name, number in ports.items()},
    }


def own_postgres(home: Home) -> EmbeddedPostgres | None:
    """Return the server that DATABASE_URL names when it is this home's, None when the user brought another."""
    url = os.environ["DATABASE_URL"]
    server = EmbeddedPostgres(home.data, log=home.logs / "postgres.log", password=urlsplit(url).password)
    return server if server.url == url else None
