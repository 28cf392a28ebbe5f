"""The OpenID provider: its discovery document and its signing keys, fetched when first needed and kept.

OpenID Connect Discovery 1.0 and RFC 8414. One copy a process, one fetch at a time, and a provider that stops answering
does not matter as long as a kept copy serves. No other module talks to the provider except to exchange a code.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import requests
import structlog
from django.conf import settings

MAX_DOCUMENT_BYTES = 1024 * 1024  # octets; real discovery documents and key sets have a few thousand
DOCUMENT_SECONDS = 24 * 3600  # how long a discovery document is kept
KEYS_SECONDS = 3600  # how long keys are kept: bounds how long a withdrawn one is believed
STALE_SECONDS = 60  # how long an old copy serves before the provider that failed is asked again
RATION_SECONDS = 60  # between two looks for new keys that strangers' tokens may cause
PATIENCE_SECONDS = 1.0  # how long such a token waits for a look that another one has caused
FAILURE_SECONDS = 5  # how long a failure is remembered, so that waiting threads do not each spend a timeout

log = structlog.get_logger(__name__)
T = TypeVar("T")


class ProviderUnavailable(RuntimeError):
    """The provider gave no usable answer; the text says what to mend, for the operator."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What we use of a discovery document (OpenID Connect Discovery 1.0 §3, RP-Initiated Logout 1.0 §2.1)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    basic_auth: bool  # the client secret goes into the Authorization header of the token request


class Shelf(Generic[T]):
    """Fetched values by URL, each kept for `seconds`; threads that want the same one share one fetch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, T]] = {}  # until, value
        self._failed: dict[str, tuple[float, ProviderUnavailable]] = {}
        self._rationed: dict[str, float] = {}  # when `renew_rationed` last looked

    def get(self, url: str, fetch: Callable[[str], T]) -> T:
        """The kept value, or a fetched one; an old value serves on while the fetch fails."""
        kept = self._kept.get(url)
        if kept and time.monotonic() < kept[0]:
            return kept[1]
        with self._lock:
            kept = self._kept.get(url)
            if kept and time.monotonic() < kept[0]:
                return kept[1]  # another thread fetched while this one waited
            try:
                return self._fetch(url, fetch)
            except ProviderUnavailable as failure:
                if kept is None:
                    raise
                log.warning("oidc_provider_stale", url=url, reason=str(failure))
                self._kept[url] = (time.monotonic() + STALE_SECONDS, kept[1])
                return kept[1]

    def renew(self, url: str, fetch: Callable[[str], T], known: T) -> T:
        """A value newer than `known`: what another thread has fetched since, or a fetch."""
        with self._lock:
            kept = self._kept.get(url)
            if kept and kept[1] is not known and time.monotonic() < kept[0]:
                return kept[1]
            return self._fetch(url, fetch)

    def renew_rationed(self, url: str, fetch: Callable[[str], T], known: T) -> T:
        """As `renew`, but one fetch in RATION_SECONDS and never a long wait: else `known` itself."""
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            return known
        try:
            kept = self._kept.get(url)
            if kept and kept[1] is not known:
                return kept[1]
            if time.monotonic() - self._rationed.get(url, -1e9) < RATION_SECONDS:
                return known
            self._rationed[url] = time.monotonic()
            return self._fetch(url, fetch)
        except ProviderUnavailable as failure:
            log.warning("oidc_provider_stale", url=url, reason=str(failure))
            return known
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Forget everything, as a new process would."""
        with self._lock:
            self._kept.clear()
            self._failed.clear()
            self._rationed.clear()

    def _fetch(self, url: str, fetch: Callable[[str], T]) -> T:
        failed = self._failed.get(url)
        if failed and time.monotonic() < failed[0]:
            raise failed[1]
        try:
            value = fetch(url)
        except ProviderUnavailable as failure:
            self._failed[url] = (time.monotonic() + FAILURE_SECONDS, failure)
            raise
        self._kept[url] = (time.monotonic() + self._seconds, value)
        return value


Keys = list[dict[str, Any]]  # JSON Web Keys, RFC 7517 §4
_documents: Shelf[Provider] = Shelf(DOCUMENT_SECONDS)
_key_sets: Shelf[Keys] = Shelf(KEYS_SECONDS)


def current() -> Provider:
    """The configured provider, discovered at first use; raises ProviderUnavailable."""
    return _documents.get(settings.OIDC_ISSUER_URL, fetch_provider)


def keys_of(provider: Provider) -> Keys:
    """Its signing keys; raises ProviderUnavailable."""
    return _key_sets.get(provider.jwks_uri, fetch_keys)


def newer_keys_of(provider: Provider, known: Keys) -> Keys:
    """Its signing keys, fetched after `known` was: a key may have been added since. Raises ProviderUnavailable.

    Only a token that came from the provider itself leads here, so no stranger can make us ask again and again.
    """
    return _key_sets.renew(provider.jwks_uri, fetch_keys, known)


def rationed_keys_of(provider: Provider, known: Keys) -> Keys:
    """The same for tokens that anybody may send: at most one fetch a minute, and `known` itself when there is nothing new."""
    return _key_sets.renew_rationed(provider.jwks_uri, fetch_keys, known)


def forget() -> None:
    """Drop what is kept, for tests and for a provider that was set up anew."""
    _documents.clear()
    _key_sets.clear()


def fetch_provider(issuer_url: str) -> Provider:
    """Fetch and check the discovery document of an issuer; raises ProviderUnavailable with what to mend."""
    url = f"{issuer_url.rstrip('/')}/.well-known/openid-configuration"
    document = fetch_json(url)
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or issuer.rstrip("/") != issuer_url.rstrip("/"):
        # A document that names another issuer would let that one sign people in here (Discovery 1.0 §4.3).
        raise ProviderUnavailable(f"{url} names the issuer {issuer!r}; OIDC_ISSUER_URL must be that very URL.")
    methods = document.get("token_endpoint_auth_methods_supported")
    return Provider(
        issuer=issuer,
        authorization_endpoint=_endpoint(document, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(document, "token_endpoint", issuer),
        jwks_uri=_endpoint(document, "jwks_uri", issuer),
        userinfo_endpoint=_endpoint(document, "userinfo_endpoint", issuer) if "userinfo_endpoint" in document else None,
        end_session_endpoint=(
            _endpoint(document, "end_session_endpoint", issuer) if "end_session_endpoint" in document else None
        ),
        # Discovery 1.0 §3: what is not said means client_secret_basic.
        basic_auth=not (isinstance(methods, list) and "client_secret_post" in methods),
    )


def _endpoint(document: dict[str, Any], name: str, issuer: str) -> str:
    """One endpoint, as safe on the way as the issuer itself."""
    url = document.get(name)
    schemes = {"https"} if issuer.startswith("https:") else {"https", "http"}
    if not isinstance(url, str) or urlsplit(url).scheme not in schemes or not urlsplit(url).hostname:
        raise ProviderUnavailable(f"The discovery document of {issuer} has no usable {name}.")
    return url


def fetch_keys(url: str) -> Keys:
    """Fetch a JSON Web Key Set (RFC 7517 §5); raises ProviderUnavailable."""
    keys = fetch_json(url).get("keys")
    if not isinstance(keys, list):
        raise ProviderUnavailable(f"{url} is not a JSON Web Key Set.")
    return [key for key in keys if isinstance(key, dict)]


def fetch_json(url: str) -> dict[str, Any]:
    """GET a JSON object of bounded size in bounded time; raises ProviderUnavailable."""
    found = parse_object(fetch(url)[1])
    if found is None:
        raise ProviderUnavailable(f"{url} did not answer with a JSON object.")
    return found


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fetch(url: str, access_token: str | None = None) -> tuple[str, bytes]:
    """GET: the media type in lower case and at most MAX_DOCUMENT_BYTES of body; raises ProviderUnavailable."""
    headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
    deadline = time.monotonic() + settings.OIDC_TIMEOUT  # requests' own timeout counts from byte to byte
    body = bytearray()
    try:
        with requests.get(
            url, headers=headers, timeout=settings.OIDC_TIMEOUT, verify=settings.OIDC_VERIFY_SSL, stream=True
        ) as response:
            response.raise_for_status()
            for chunk in response.iter_content(16_384):
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES or time.monotonic() > deadline:
                    raise ProviderUnavailable(f"{url} answers with too much or too slowly.")
    except (requests.RequestException, OSError, ValueError) as error:
        raise ProviderUnavailable(f"{url} cannot be fetched: {error}") from error
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), bytes(body)
