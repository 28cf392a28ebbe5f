"""Readers of single settings: each returns a checked value or refuses to start with a sentence that names the setting."""

import base64
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from relay_project.mail.schedule import InvalidSchedule, RetrySchedule, parse_schedule

SECRET_MIN_LENGTH = 32  # characters: 16 random bytes in hexadecimal, the least that is worth guessing against
DOMAIN_PATTERN = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]\Z")
UNCONFIGURED_SECRET = "unconfigured-secret-of-commands-that-store-nothing"  # noqa: S105 — never used to store anything

Endpoint = tuple[str, int]


def read_secrets(env: environ.Env, required: bool) -> list[str]:
    """APP_SECRET, then the older ones of APP_SECRETS_OLD (comma-separated), for reading only."""
    secret = env.str("APP_SECRET", default="")
    if not secret:
        if required:
            raise ImproperlyConfigured("APP_SECRET is not set. Make one with: openssl rand -base64 32")
        return [UNCONFIGURED_SECRET]
    if len(secret) < SECRET_MIN_LENGTH:
        raise ImproperlyConfigured(f"APP_SECRET has {len(secret)} characters; it needs at least {SECRET_MIN_LENGTH}.")
    return [secret, *(old for old in env.list("APP_SECRETS_OLD", default=[]) if old)]


def derived_secret(secret: str) -> str:
    """Django's SECRET_KEY: derived, so that sessions and stored secrets do not share a key."""
    return base64.b64encode(hashlib.sha256(b"relay django\0" + secret.encode()).digest()).decode()


def read_positive(env: environ.Env, name: str, default: int, minimum: int = 1, maximum: int = 2**40) -> int:
    """A whole number within its bounds."""
    raw = env.str(name, default=str(default))
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}.") from None
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name} must be between {minimum} and {maximum}, not {value}.")
    return value


SWITCH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


def read_choice(env: environ.Env, name: str, choices: tuple[str, ...]) -> str:
    """One of a few words, in any case; the first is the default."""
    word = env.str(name, default=choices[0]).strip().lower()
    if word not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {word!r}.")
    return str(word)


def read_file(env: environ.Env, name: str) -> str:
    """The path of a file that can be read; empty for none."""
    path = str(env.str(name, default=""))
    if path and not os.access(path, os.R_OK):
        raise ImproperlyConfigured(f"{name} names {path}, which cannot be read.")
    return path


def read_switch(env: environ.Env, name: str, default: bool) -> bool:
    """On or off. Anything else refuses: taken for "off", a mistyped DEBUG=flase is harmless and SANDBOX=ture is not."""
    raw = env.str(name, default="true" if default else "false")
    if raw.strip().lower() not in SWITCH:
        raise ImproperlyConfigured(f"{name} must be true or false, not {raw!r}.")
    return SWITCH[raw.strip().lower()]


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def read_log_level(env: environ.Env, name: str, default: str) -> str:
    """A level of the standard library's logging, in capitals."""
    level: str = env.str(name, default=default).strip().upper()
    if level not in LOG_LEVELS:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(LOG_LEVELS).lower()}, not {level.lower()!r}.")
    return level


POSTGRESQL = "django.db.backends.postgresql"


def read_database(env: environ.Env, name: str, default: str) -> dict[str, Any]:
    """A PostgreSQL URL as Django's settings of a database. No message shows the URL, since it holds a password.

    TLS is the operator's choice by ?sslmode= in the URL (lesson S5); nothing here turns it off.
    """
    database: dict[str, Any] = {}
    # The scheme first: environ warns about one that it does not know, and its warning holds the password.
    if env.str(name, default=default).startswith(("postgresql://", "postgres://")):
        try:
            database = env.db_url(name, default=default)
        except (ValueError, ImproperlyConfigured):
            database = {}
    if database.get("ENGINE") != POSTGRESQL:
        raise ImproperlyConfigured(f"{name} must look like postgresql://user:password@host:5432/relay.")
    options = database.setdefault("OPTIONS", {})
    options["application_name"] = "relay"
    options.setdefault("connect_timeout", 10)
    database["CONN_MAX_AGE"] = None  # persistent: a connection costs more than a request
    database["CONN_HEALTH_CHECKS"] = True
    return database


def read_issuer(env: environ.Env, name: str) -> str:
    """The URL of an OpenID provider without a trailing slash, or nothing."""
    value: str = env.str(name, default="").strip().rstrip("/")
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise ImproperlyConfigured(f"{name} must look like https://id.example.com/realms/mail, not {value!r}.")
    return value


def read_domain(env: environ.Env, name: str, default: str) -> str:
    """A domain name in lower case."""
    value: str = env.str(name, default=default).strip().lower().rstrip(".")
    if not DOMAIN_PATTERN.match(value):
        raise ImproperlyConfigured(f"{name} must be a domain name such as mail.example.com, not {value!r}.")
    return value


def read_web_url(env: environ.Env, name: str, default: str) -> str:
    """An http(s) origin without a path, a trailing slash or a password."""
    value: str = env.str(name, default=default).rstrip("/")
    parts = urlsplit(value)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.path
        or parts.username
        or not _has_port(parts)
    ):
        raise ImproperlyConfigured(f"{name} must look like https://relay.example.com, not {value!r}.")
    return value


def read_optional_url(env: environ.Env, name: str, default: str) -> str:
    """The same, or nothing."""
    return "" if env.str(name, default=default) == "" else read_web_url(env, name, default)


def read_origins(env: environ.Env, name: str) -> list[str]:
    """A comma-separated list of http(s) origins, as browsers write them."""
    return [_origin(name, raw.strip()) for raw in env.list(name, default=[])]


def _origin(name: str, raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or f"{parts.scheme}://{parts.netloc}" != raw or not _has_port(parts):
        raise ImproperlyConfigured(f"{name} must list origins such as https://shop.example.com, not {raw!r}.")
    return raw


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is left out or is one."""
    try:
        return parts.port is None or 0 < parts.port <= 65535
    except ValueError:
        return False


def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """`host:port`, `[v6]:port` or, with a default port, a bare host; raises ValueError."""
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::(\d+))?|([^:\s]+)(?::(\d+))?|([0-9a-fA-F:]+)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not host:port")
    host = match[1] or match[3] or match[5]
    port = int(match[2] or match[4] or default_port or 0)
    if not 0 < port <= 65535:
        raise ValueError(f"{text!r} has no valid port")
    return host, port


def read_endpoint(env: environ.Env, name: str, default: str) -> Endpoint:
    """One address to listen on or to talk to."""
    raw = env.str(name, default=default)
    try:
        return parse_endpoint(raw)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} must be an address and a port such as 127.0.0.1:8000, not {raw!r}."
        ) from None


def read_addresses(env: environ.Env, name: str, default_port: int) -> list[Endpoint]:
    """A comma-separated list of IP addresses, each with an optional port."""
    found = []
    for raw in env.list(name, default=[]):
        try:
            host, port = parse_endpoint(raw, default_port)
            found.append((str(ipaddress.ip_address(host)), port))
        except ValueError:
            raise ImproperlyConfigured(f"{name} must list IP addresses such as 192.0.2.53:53, not {raw!r}.") from None
    return found


def read_listeners(env: environ.Env, name: str, default: str) -> list[Endpoint]:
    """Addresses to listen on, each `address:port`; empty: none."""
    found = []
    for raw in env.list(name, default=[default]):
        try:
            host, port = parse_endpoint(raw)
            found.append((str(ipaddress.ip_address(host)), port))
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} must list addresses with ports such as 0.0.0.0:25 or [::]:25, or be empty, not {raw!r}."
            ) from None
    return found


def read_source_ips(env: environ.Env, name: str) -> list[str]:
    """Addresses to send from, each `public` or `public=local`; ips.register takes them apart."""
    entries = [entry.strip() for entry in env.list(name, default=[])]
    for entry in entries:
        try:
            for address in entry.split("=", 1):
                ipaddress.ip_address(address)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} must list addresses such as 192.0.2.1 or, behind NAT, 192.0.2.1=10.0.0.5, not {entry!r}."
            ) from None
    return entries


def read_networks(
    env: environ.Env, name: str, default: Sequence[str] = ()
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """A comma-separated list of addresses and networks."""
    networks = []
    for raw in env.list(name, default=list(default)):
        try:
            networks.append(ipaddress.ip_network(raw.strip(), strict=False))
        except ValueError:
            raise ImproperlyConfigured(f"{name} must list addresses or networks (10.0.0.0/8), not {raw!r}.") from None
    return networks


def read_routes(env: environ.Env, name: str) -> dict[str, str]:
    """A JSON object: domain (or `*` for all) → `host:port`."""
    raw = env.str(name, default="{}")
    try:
        table = json.loads(raw)
        return {str(domain).lower(): "{}:{}".format(*parse_endpoint(target)) for domain, target in table.items()}
    except (ValueError, AttributeError, TypeError):
        raise ImproperlyConfigured(
            f'{name} must be JSON such as {{"example.com": "192.0.2.1:25"}}, not {raw!r}.'
        ) from None


def read_lifetime(env: environ.Env, name: str, schedule: RetrySchedule) -> timedelta:
    """How long mail may wait, such as `3d`; by default three days, or a day more than a longer schedule takes."""
    tries = sum(schedule.steps, timedelta())
    raw = env.str(name, default="")
    if not raw.strip():
        return max(timedelta(days=3), tries + timedelta(days=1))
    try:
        [span] = parse_schedule(raw).steps
    except (InvalidSchedule, ValueError):
        raise ImproperlyConfigured(f"{name} must be a time such as 3d or 36h, not {raw!r}.") from None
    if span <= tries:
        raise ImproperlyConfigured(f"{name} is {raw!r}, but the tries of RETRY_SCHEDULE alone take {tries}.")
    return span


def read_schedule(env: environ.Env, name: str, default: str) -> RetrySchedule:
    """The waits between tries, such as `15m,1h,2h`; one try more than waits."""
    raw = env.str(name, default=default)
    try:
        return parse_schedule(raw)
    except InvalidSchedule as error:
        raise ImproperlyConfigured(f"{name}: {error}; not {raw!r}.") from None


def read_scope_table(
    env: environ.Env, name: str, scopes: Collection[str], roles: Mapping[Any, Collection[str]]
) -> dict[str, frozenset[str]]:
    """A JSON object: word of a token → scopes, as a list or by a role's name."""
    raw = env.str(name, default="{}")
    try:
        table = json.loads(raw)
        found = {
            str(word): frozenset(roles[given] if isinstance(given, str) else given) for word, given in table.items()
        }
        if all(one in scopes for given in found.values() for one in given):
            return found
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        pass
    raise ImproperlyConfigured(
        f'{name} must be JSON such as {{"mail:send": ["sends.send"], "mail:admin": "owner"}}, not {raw!r}.'
    )


MAX_PLAN_DAYS = 366


def read_plan(env: environ.Env, name: str, default: str) -> tuple[int, ...]:
    """Messages a day, day by day: whole numbers above 0, separated by commas; empty: no plan."""
    raw = env.str(name, default=default)
    try:
        plan = tuple(int(word) for word in raw.replace(",", " ").split())
    except ValueError:
        plan = (0,)
    if any(day < 1 for day in plan) or len(plan) > MAX_PLAN_DAYS:
        raise ImproperlyConfigured(f"{name} must list messages a day such as 50,100,200, not {raw!r}.")
    return plan
