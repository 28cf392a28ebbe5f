"""API keys: 32 lower-case hexadecimal characters, shown once; only their SHA-256 is kept.

Lesson S3: a disabled key is refused. A key or a person can give a key only scopes that they have themselves.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache

from django.db import transaction
from django.db.models import Q

from projects.access import ARCHIVED, Caller, check_grant, record_by
from projects.events import EventKind
from projects.guesses import check_guess, note_right, note_wrong
from projects.key_events import DELETED, DISABLED, tell_of_key
from projects.models import ApiKey, Project
from projects.scopes import Scope, sort_scopes
from relay_project.db.lookup import RequestLookup
from relay_project.web.errors import ApiError, Violation, Violations

TOKEN_BYTES = 16  # 128 bits, as the contract: beyond guessing, so a plain SHA-256 is enough
MAX_KEYS = 10  # per project, as the contract
MAX_ALLOWED_IPS = 100  # entries; each request compares the client with all of them
LEAST_PREFIX = {4: 24, 6: 48}  # the contract: an allow-list of half the internet is none
LAST_ACCESS_EVERY = timedelta(minutes=1)  # each write is a row version in a table that every request reads

TOO_MANY = "You have reached the maximum number of API keys for this project."
IP_NEEDED = 'At least one allowed IP is required when the "sends.send" scope is enabled.'

_BY_HASH = RequestLookup(ApiKey, "key_hash", follow="project")  # every request of the API by a key begins with it

Known = Mapping[str, ApiKey | None]  # by token
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class KeyRefused(ApiError):
    """This key opens nothing, and the sentence why (403, as the contract says)."""

    def __init__(self, message: str) -> None:
        super().__init__(403, message)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What an update says; None leaves a field as it is."""

    name: str | None = None
    is_enabled: bool | None = None
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    expires_at: datetime | None = None
    never_expires: bool = False  # takes an expiry away


def create_key(
    project: Project,
    name: str,
    scopes: Sequence[str],
    allowed_ips: Sequence[str] = (),
    expires_at: datetime | None = None,
    caller: Caller | None = None,
    *,
    is_test: bool = False,
) -> tuple[ApiKey, str]:
    """A new key and its token, which nobody can read again.

    `caller` is whoever asks; None means our own code. Raises Violations and ApiError (400, 403).
    """
    networks = normalise_allowed_ips(allowed_ips)
    check_grant(scopes, caller)
    if Scope.SENDS_SEND in scopes and not networks:
        raise Violations([Violation("allowed_ips", IP_NEEDED)])
    token = make_token()
    with transaction.atomic():
        # the project's row is locked, or two requests at once would both find the last free place
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if ApiKey.objects.filter(project=project).count() >= MAX_KEYS:
            raise ApiError(400, TOO_MANY)
        key = ApiKey.objects.create(
            project=project,
            name=name,
            key_hash=hash_token(token),
            scopes=sort_scopes(scopes),
            allowed_ips=networks,
            expires_at=expires_at,
            is_test=is_test,
        )
        detail = {"name": name, "scopes": key.scopes, "allowed_ips": networks, "is_test": is_test}
        record_by(caller, "api_key.created", key, project, **detail)
        tell_of_key(EventKind.API_KEY_CREATED, key)
    return key, token


def update_key(key: ApiKey, change: KeyChange, caller: Caller | None = None) -> ApiKey:
    """The key after a partial update; raises Violations and ApiError (400, 403)."""
    if change.allowed_ips is not None:
        change = replace(change, allowed_ips=normalise_allowed_ips(change.allowed_ips))
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().select_related("project").get(pk=key.pk)
        was_enabled = key.is_enabled
        if change.scopes is not None:
            check_grant([scope for scope in change.scopes if scope not in key.scopes], caller)
            key.scopes = sort_scopes(change.scopes)
        for field in ("name", "is_enabled", "allowed_ips", "expires_at"):
            value = getattr(change, field)
            if value is not None:
                setattr(key, field, value)
        if change.never_expires:
            key.expires_at = None
        if Scope.SENDS_SEND in key.scopes and not key.allowed_ips:
            raise ApiError(400, IP_NEEDED)
        key.save(update_fields=["name", "is_enabled", "scopes", "allowed_ips", "expires_at"])
        record_by(caller, "api_key.changed", key, key.project, **_changed(change))
        if was_enabled and not key.is_enabled:
            tell_of_key(EventKind.API_KEY_REVOKED, key, reason=DISABLED)
    return key


def delete_key(key: ApiKey, caller: Caller | None = None) -> None:
    """The key opens nothing from the next request on."""
    with transaction.atomic():
        record_by(caller, "api_key.deleted", key, key.project, name=key.name)
        if key.is_enabled:
            tell_of_key(EventKind.API_KEY_REVOKED, key, reason=DELETED)
        key.delete()


def keys_of(tokens: Collection[str]) -> Known:
    """The keys of several tokens in one look-up, for authenticate_key()."""
    return dict(zip(tokens, _BY_HASH.of_requests([hash_token(token) for token in tokens]), strict=True))


def authenticate_key(token: str, address: str, now: datetime, known: Known | None = None) -> ApiKey:
    """The key of a token, with its project; raises KeyRefused. Notes the access, at most once a minute.

    `address` is the client's, as the trusted proxies tell it; empty when there is none (a unix socket). `known` has been
    looked up just now, for whoever comes with several.
    """
    token_hash = hash_token(token)
    check_guess(address, token_hash)
    key = (_BY_HASH.of_request(token_hash) if known is None else known[token]) or _by_former(token_hash, now)
    if key is None:
        note_wrong(address, now)
        raise KeyRefused("Invalid API key.")
    if not key.is_enabled:
        raise KeyRefused("This API key is disabled.")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyRefused("This API key has expired.")
    if key.project.archived_at is not None:
        raise KeyRefused(ARCHIVED)
    if not is_allowed(address, tuple(key.allowed_ips)):
        raise KeyRefused("Client IP is not allowed for this API key.")
    note_right(token_hash)
    _note_access(key, now)
    return key


def _by_former(token_hash: str, now: datetime) -> ApiKey | None:
    """The key whose secret this was before a rotation, as long as it still works beside the new one."""
    keys = ApiKey.objects.select_related("project")
    return keys.filter(former__key_hash=token_hash, former__valid_until__gt=now).first()


def make_token() -> str:
    """A new secret of a key."""
    return secrets.token_hex(TOKEN_BYTES)


def hash_token(token: str) -> str:
    """The SHA-256 of a token, in hexadecimal; whatever a header may hold has one."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_allowed(address: str, allowed_ips: tuple[str, ...]) -> bool:
    """Whether a client's address matches an entry; no entries allow everybody."""
    if not allowed_ips:
        return True
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(client in network for network in _networks(allowed_ips))


def normalise_allowed_ips(entries: Sequence[str]) -> list[str]:
    """Addresses and networks in their shortest spelling, each once; raises Violations at `allowed_ips[i]`."""
    if len(entries) > MAX_ALLOWED_IPS:
        raise Violations(
            [Violation("allowed_ips", f"This collection should contain {MAX_ALLOWED_IPS} elements or less.")]
        )
    found: dict[str, None] = {}
    violations = []
    for index, entry in enumerate(entries):
        try:
            found[_normalise_entry(entry.strip())] = None
        except ValueError as error:
            violations.append(Violation(f"allowed_ips[{index}]", str(error)))
    if violations:
        raise Violations(violations)
    return list(found)


def _normalise_entry(entry: str) -> str:
    address_text, slash, prefix_text = entry.partition("/")
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        raise ValueError(f"'{entry}' is not a valid IPv4 or IPv6 address.") from None
    if "%" in address_text:
        raise ValueError(f"'{entry}' is not a valid IPv4 or IPv6 address.")
    if not slash:
        # clients that come as ::ffff:192.0.2.7 are seen as 192.0.2.7
        return str(getattr(address, "ipv4_mapped", None) or address)
    widest = address.max_prefixlen
    if not (prefix_text.isascii() and prefix_text.isdigit() and len(prefix_text) <= 3 and int(prefix_text) <= widest):
        raise ValueError(f"Invalid CIDR prefix in '{entry}'.")
    least = LEAST_PREFIX[address.version]
    if int(prefix_text) < least:
        raise ValueError(f"IPv{address.version} CIDR prefix must be between /{least} and /{widest} (got '{entry}').")
    return str(ipaddress.ip_network((address, int(prefix_text)), strict=False))


@lru_cache(maxsize=1024)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(entry) for entry in entries)


def _changed(change: KeyChange) -> dict[str, object]:
    """What an update says, for the audit log."""
    said = {field.name: getattr(change, field.name) for field in fields(change)}
    if change.expires_at is not None:
        said["expires_at"] = change.expires_at.isoformat()
    return {name: value for name, value in said.items() if value not in (None, False) or name == "is_enabled"}


def _note_access(key: ApiKey, now: datetime) -> None:
    """One conditional UPDATE, and mostly none: of requests at once only the first one's condition holds."""
    stale = now - LAST_ACCESS_EVERY
    if key.last_accessed_at is None or key.last_accessed_at <= stale:
        is_stale = Q(last_accessed_at__isnull=True) | Q(last_accessed_at__lte=stale)
        ApiKey.objects.filter(is_stale, pk=key.pk).update(last_accessed_at=now)
        key.last_accessed_at = now
