"""System checks of the configuration: settings that are each well-formed and together make no sense.

Tagged "relay": `manage.py check --tag relay`; run_web runs them before it listens, and `manage.py verify` shows them.
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

TAG = "relay"
TLS_MODES = {"require", "verify-ca", "verify-full"}


def is_local(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host in {"", "localhost"} or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@register(TAG)
def check_web(**_: Any) -> list[CheckMessage]:
    """The address that people use, and how it is guarded."""
    found: list[CheckMessage] = []
    web = urlsplit(settings.WEB_URL)
    host = web.hostname or ""
    if settings.DEBUG and web.scheme == "https":
        found.append(Error("DEBUG is on for a site served by https: it shows settings to visitors.", id="relay.E001"))
    if web.scheme == "http" and not is_local(host):
        hint = "Put a TLS proxy in front and set WEB_URL to https://…"
        found.append(Warning("WEB_URL is http: passwords and sessions travel in clear text.", hint, id="relay.W001"))
    if host == settings.INSTANCE_DOMAIN:
        hint = f"Use a domain of its own for mail, such as mail.{host}."
        found.append(
            Warning("INSTANCE_DOMAIN is the host of WEB_URL; its DNS belongs to the mail.", hint, id="relay.W002")
        )
    if not is_local(host) and settings.INSTANCE_DOMAIN.endswith((".test", ".example", ".invalid")):
        hint = "Set INSTANCE_DOMAIN to a domain that you own."
        found.append(Warning(f"INSTANCE_DOMAIN {settings.INSTANCE_DOMAIN} cannot exist.", hint, id="relay.W003"))
    if not is_local(host) and settings.SANDBOX_INTERNET:
        found.append(Warning("SANDBOX_INTERNET is on: no mail leaves this machine.", id="relay.W004"))
    return found


@register(TAG)
def check_proxies(**_: Any) -> list[CheckMessage]:
    """Lesson S4: a proxy list that holds everybody lets every client choose its own address."""
    lists = {"TRUSTED_PROXIES": settings.TRUSTED_PROXIES, "SMTP_PROXIES": settings.SMTP_PROXIES}
    hint = "Name the addresses of your proxies."
    return [
        Error(f"{name} trusts everybody ({network}).", hint, id="relay.E002")
        for name, networks in lists.items()
        for network in networks
        if network.prefixlen == 0
    ]


@register(TAG)
def check_listeners(**_: Any) -> list[CheckMessage]:
    """Addresses that this machine's processes listen on: one each, and the probes out of reach (lesson S1)."""
    found: list[CheckMessage] = []
    taken: dict[tuple[str, int], str] = {}
    for name, address in [("WEB_BIND", settings.WEB_BIND), ("LIVE_BIND", settings.LIVE_BIND), *_probes(), *_smtp()]:
        if address in taken:
            found.append(Error(f"{name} and {taken[address]} are the same address.", id="relay.E003"))
        taken[address] = name
    for name, (host, _port) in _probes():
        if not is_local(host):
            hint = "Metrics tell volumes and versions: let a firewall keep strangers out, or use 127.0.0.1."
            found.append(Warning(f"{name} listens on {host}, which others may reach.", hint, id="relay.W005"))
    return found


def _smtp() -> list[tuple[str, tuple[str, int]]]:
    names = ("SMTP_MX", "SMTP_SUBMISSION", "SMTP_SUBMISSIONS")
    return [(name, address) for name in names for address in getattr(settings, name)]


def _probes() -> list[tuple[str, tuple[str, int]]]:
    return [(f"PROBE_{role.upper()}", address) for role, address in settings.PROBES.items()]


@register(TAG)
def check_oidc(**_: Any) -> list[CheckMessage]:
    """The issuer must be reached by TLS: its keys decide who may sign in."""
    issuer = urlsplit(settings.OIDC_ISSUER_URL)
    if settings.OIDC_ENABLED and issuer.scheme != "https" and not is_local(issuer.hostname or ""):
        return [Error("OIDC_ISSUER_URL must start with https://.", id="relay.E004")]
    return []


@register(TAG)
def check_database_tls(**_: Any) -> list[CheckMessage]:
    """Lesson S5: libpq's default falls back to clear text without a word."""
    database = settings.DATABASES["default"]
    mode = database.get("OPTIONS", {}).get("sslmode", "prefer")
    if is_local(str(database.get("HOST", ""))) or mode in TLS_MODES:
        return []
    hint = "Add ?sslmode=verify-full (or require) to DATABASE_URL."
    return [Warning(f"The database is on another host, and sslmode is {mode}.", hint, id="relay.W006")]
