"""Sign-in by OpenID Connect: mozilla-django-oidc with what it leaves to its users.

The library does state, nonce, PKCE and the exchange of the code. Added here: discovery instead of configured endpoints,
verification of every claim of the ID token, identity by (issuer, subject), failures as pages instead of 500s, no login
of the inactive, and logout at the provider. Traps of the base classes are named where they are stepped around.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

import requests
import structlog
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.utils import import_from_settings
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from accounts import audit, provider
from accounts.id_token import (
    Claims,
    Expected,
    InvalidIdToken,
    NoMatchingKey,
    check_claims,
    check_parties,
    read_signed,
    subject_of,
)
from accounts.identities import Profile, sign_in_person
from accounts.models import User
from accounts.provider import Provider, ProviderUnavailable
from accounts.sign_in import begin_session, safe_next

BACKEND = "accounts.oidc.Backend"
ID_TOKEN = "oidc_id_token"  # noqa: S105 — the session's key for the token that logout hands back as a hint
ROUND_TRIP_SECONDS = 3600  # a session that only waits for the provider's answer: a person who looks for their password
FRESH_ID_TOKEN = "oidc.id_token"  # noqa: S105 — where it waits in request.META until the sign-in has succeeded

log = structlog.get_logger(__name__)


class Failure(StrEnum):
    """Why a sign-in ended on an error page; the value goes to the log."""

    STATE = "state"
    DECLINED = "declined"
    TOKEN = "token"  # noqa: S105 — a reason, not a secret
    PROVIDER = "provider"
    INACTIVE = "inactive"


SENTENCES = {
    Failure.STATE: (400, "This sign-in was begun in another browser or too long ago. Please begin again."),
    Failure.DECLINED: (403, "The sign-in provider did not let you in, or you cancelled."),
    Failure.TOKEN: (400, "The answer of the sign-in provider could not be verified. Please begin again."),
    Failure.PROVIDER: (502, "The sign-in provider does not answer as it should. Please try again in a minute."),
    Failure.INACTIVE: (403, "This account is switched off. Ask whoever runs this service."),
}


def callback_url() -> str:
    """The redirect URI to register at the provider. From WEB_URL, not from the request: a proxy may rewrite Host."""
    return settings.WEB_URL + reverse("oidc_authentication_callback")


class Backend(OIDCAuthenticationBackend):  # type: ignore[misc]  # the base has no types
    """Turns a code into a person."""

    def __init__(self) -> None:
        # Not the base's __init__: it wants the endpoints, and Django makes a backend for every request with a session.
        # A provider that is down must not take those down with it.
        self.UserModel = User
        self.OIDC_RP_CLIENT_ID = settings.OIDC_RP_CLIENT_ID
        self.OIDC_RP_CLIENT_SECRET = settings.OIDC_RP_CLIENT_SECRET

    @property
    def OIDC_OP_TOKEN_ENDPOINT(self) -> str:
        """Where the base exchanges the code."""
        return provider.current().token_endpoint

    @staticmethod
    def get_settings(attr: str, *args: Any) -> Any:
        """A setting of the base, the discovered value where the provider says it."""
        if attr == "OIDC_TOKEN_USE_BASIC_AUTH":
            return provider.current().basic_auth
        return import_from_settings(attr, *args)

    def authenticate(
        self, request: HttpRequest | None, nonce: str | None = None, code_verifier: str | None = None
    ) -> User | None:
        """The person who brought the code; raises InvalidIdToken, ProviderUnavailable.

        Named parameters, so that Django does not offer this backend the passwords of the local form.
        """
        person: User | None = super().authenticate(request, nonce=nonce, code_verifier=code_verifier)
        return person

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Exchange the code (Core 1.0 §3.1.3); raises InvalidIdToken for a refused code, ProviderUnavailable."""
        try:
            answer = super().get_token({**payload, "redirect_uri": callback_url()})
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else None
            if status is not None and 400 <= status < 500:
                raise InvalidIdToken(f"the token endpoint refused the code with {status}") from None
            raise ProviderUnavailable(f"The token endpoint answered {status}.") from None
        except requests.RequestException as error:
            raise ProviderUnavailable(f"The token endpoint failed: {type(error).__name__}.") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("id_token"), str):
            raise InvalidIdToken("the token endpoint gave no ID token")
        return answer

    def verify_token(self, token: str, **kwargs: Any) -> Claims:
        """The claims of an ID token that was made for us, now and for this sign-in; raises InvalidIdToken."""
        nonce = kwargs.get("nonce")
        if not nonce:
            raise InvalidIdToken("no nonce was kept for this sign-in")
        source = provider.current()
        claims = _read(token, source)
        check_claims(claims, _expected(source, nonce), datetime.now(UTC))
        return claims

    def store_tokens(self, access_token: str | None, id_token: str) -> None:
        """Remember the ID token for this request; it enters the session when the sign-in has succeeded."""
        self.request.META[FRESH_ID_TOKEN] = id_token

    def get_or_create_user(self, access_token: str | None, id_token: str, payload: Claims) -> User:
        """The person of (issuer, subject), whatever e-mail address the claims name."""
        source = provider.current()
        claims = {**payload, **_user_information(source, access_token, payload)}
        address = audit.address_of(self.request)
        return sign_in_person(source.issuer, subject_of(payload), Profile.of(claims), datetime.now(UTC), address)

    def get_user(self, user_id: int) -> User | None:
        """The person of a session, as long as they are active (the base does not ask)."""
        return User.objects.filter(pk=user_id, is_active=True).first()


def _expected(source: Provider, nonce: str | None = None) -> Expected:
    return Expected(source.issuer, settings.OIDC_RP_CLIENT_ID, nonce, settings.OIDC_CLOCK_LEEWAY_SECONDS)


def _read(token: str, source: Provider) -> Claims:
    """The signed claims; an unknown key may be a new one, so the key set is fetched once more."""
    keys = provider.keys_of(source)
    try:
        return read_signed(token, keys, settings.OIDC_RP_SIGN_ALGO, settings.OIDC_VERIFY_KID)
    except NoMatchingKey:
        keys = provider.newer_keys_of(source, keys)
        return read_signed(token, keys, settings.OIDC_RP_SIGN_ALGO, settings.OIDC_VERIFY_KID)


def _user_information(source: Provider, access_token: str | None, id_claims: Claims) -> Claims:
    """What the userinfo endpoint says (Core 1.0 §5.3); nothing when it fails: the ID token is proof enough.

    Raises InvalidIdToken when it speaks of somebody else (§5.3.2).
    """
    if not source.userinfo_endpoint or not isinstance(access_token, str):
        return {}
    try:
        media_type, body = provider.fetch(source.userinfo_endpoint, access_token)
    except ProviderUnavailable as failure:
        log.warning("oidc_userinfo_failed", reason=str(failure))
        return {}
    if media_type == "application/jwt":
        claims = _read(body.decode("ascii", "replace"), source)
        check_parties(claims, _expected(source))
    else:
        claims = provider.parse_object(body) or {}
    if claims and claims.get("sub") != id_claims["sub"]:
        raise InvalidIdToken("the user information is about another subject")
    # Only the profile is taken: nothing unsigned may override what the ID token proved.
    return {name: claims[name] for name in ("name", "preferred_username", "email", "picture") if name in claims}


def _refuse(request: HttpRequest, failure: Failure, reason: str = "") -> HttpResponse:
    """The error page; the reason goes to the log only."""
    log.warning("oidc_sign_in_failed", failure=failure.value, reason=reason, address=audit.address_of(request))
    status, sentence = SENTENCES[failure]
    return render(request, "accounts/sign_in_failed.html", {"sentence": sentence}, status=status)


class GuardedView(View):
    """What both views share: absent without OIDC, never cached, and every expected failure a page."""

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Run the view; a failure becomes its error page."""
        if not settings.OIDC_ENABLED:
            raise Http404
        try:
            return super().dispatch(request, *args, **kwargs)
        except (SuspiciousOperation, UpdateError) as error:  # an unknown state; a session that ended meanwhile
            return _refuse(request, Failure.STATE, str(error))
        except InvalidIdToken as error:
            return _refuse(request, Failure.TOKEN, str(error))
        except ProviderUnavailable as error:
            return _refuse(request, Failure.PROVIDER, str(error))


class StartView(GuardedView, OIDCAuthenticationRequestView):  # type: ignore[misc]  # the base has no types
    """Sends the browser to the provider with state, nonce and an S256 challenge."""

    def __init__(self, **kwargs: Any) -> None:
        View.__init__(self, **kwargs)  # not the base's, which wants the endpoint before dispatch can catch a failure
        self.OIDC_RP_CLIENT_ID = settings.OIDC_RP_CLIENT_ID

    @property
    def OIDC_OP_AUTH_ENDPOINT(self) -> str:
        """Where the provider asks the person."""
        return provider.current().authorization_endpoint

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        """Parameters that replace the base's: its redirect URI follows the Host header."""
        return {**super().get_extra_params(request), "redirect_uri": callback_url()}

    def get(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the provider; where to go afterwards waits in the session."""
        response: HttpResponseRedirect = super().get(request)
        request.session["oidc_login_next"] = safe_next(request, request.GET.get("next"))
        if not request.user.is_authenticated:  # anybody can have such sessions made; they must not stay for weeks
            request.session.set_expiry(ROUND_TRIP_SECONDS)
        endpoint = self.OIDC_OP_AUTH_ENDPOINT
        if "?" in endpoint:  # the base appends with "?" whatever the endpoint already has (RFC 6749 §3.1)
            return HttpResponseRedirect(response.url.replace(f"{endpoint}?", f"{endpoint}&", 1))
        return response


class CallbackView(GuardedView, OIDCAuthenticationCallbackView):  # type: ignore[misc]  # the base has no types
    """Takes the code back from the provider and begins the session."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Sign in. An error from the provider ends this attempt only: the base would sign out whoever is signed in."""
        if "error" in request.GET:
            states = request.session.get("oidc_states")
            if not isinstance(states, dict) or states.pop(request.GET.get("state", ""), None) is None:
                return _refuse(request, Failure.STATE)
            request.session.modified = True
            return _refuse(request, Failure.DECLINED, request.GET["error"][:100])
        response: HttpResponse = super().get(request)
        return response

    def login_success(self) -> HttpResponse:
        """Begin the session under a new key, also for a person who was signed in already (the base keeps the key)."""
        target = self.request.session.get("oidc_login_next")
        begin_session(self.request, self.user, "oidc", BACKEND)
        self.request.session[ID_TOKEN] = self.request.META[FRESH_ID_TOKEN]
        return HttpResponseRedirect(safe_next(self.request, target))

    def login_failure(self) -> HttpResponse:
        """No code, no sign-in in this session, or a person who is switched off."""
        user = getattr(self, "user", None)
        return _refuse(self.request, Failure.STATE if user is None else Failure.INACTIVE)


def end_session_url(request: HttpRequest) -> str | None:
    """Where to sign out of the provider (RP-Initiated Logout 1.0 §2); None when there is no such place or session."""
    id_token = request.session.get(ID_TOKEN)
    if not settings.OIDC_ENABLED or not id_token:
        return None
    try:
        endpoint = provider.current().end_session_endpoint
    except ProviderUnavailable as failure:
        log.warning("oidc_sign_out_local_only", reason=str(failure))
        return None
    if endpoint is None:
        return None
    query = {
        "id_token_hint": id_token,
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "post_logout_redirect_uri": settings.WEB_URL,
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
