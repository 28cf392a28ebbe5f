"""A caller by an access token of the OpenID provider: somebody who is known by (issuer, subject), person or machine.

What they may do is what the token and their membership both give: a token is never more than its owner, and never more
than it was made for. A machine is an account that staff made for its subject (`manage.py add_client`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings

from accounts.access_token import read_access_token
from accounts.id_token import HasExpired, InvalidIdToken
from accounts.identities import find_person
from accounts.models import User
from accounts.provider import ProviderUnavailable
from projects.api_keys import hash_token
from projects.guesses import check_guess, note_right, note_wrong
from projects.scopes import SCOPES
from relay_project.web.errors import ApiError

ANY = "*"  # in OIDC_API_SCOPES: what every token gives

log = structlog.get_logger(__name__)


def authenticate_token(token: str, address: str, now: datetime) -> tuple[User, frozenset[str]]:
    """Whose token it is, and the scopes it gives; raises ApiError 401, 403, 429 and 503."""
    token_hash = hash_token(token)
    check_guess(address, token_hash)
    try:
        issuer, subject, claims = read_access_token(token, now)
    except ProviderUnavailable as failure:
        log.warning("access_token_unchecked", reason=str(failure))
        message = "Access tokens cannot be checked at the moment. Please try again."
        raise ApiError(503, message, headers={"Retry-After": "5"}) from None
    except HasExpired:
        raise _refusal("The access token has expired.") from None
    except InvalidIdToken as error:
        log.info("access_token_refused", reason=str(error), address=address)
        note_wrong(address, now)
        raise _refusal("Invalid access token.") from None
    note_right(token_hash)
    user = find_person(issuer, subject)
    if user is None:
        raise ApiError(403, "No account here belongs to this access token.")
    if not user.is_active:
        raise ApiError(403, "This account is switched off.")
    return user, token_scopes(claims, settings.OIDC_API_SCOPE_CLAIM, settings.OIDC_API_SCOPES)


def token_scopes(claims: Mapping[str, Any], claim: str, table: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The scopes that a token's words stand for: by the table, or, where there is none, by their own names.

    Words are a string with spaces (RFC 8693 §4.2) or a list. Whatever else is there gives nothing.
    """
    words = _words(_found(claims, claim))
    if not table:
        return frozenset(word for word in words if word in SCOPES)
    return frozenset().union(*(table.get(word, frozenset()) for word in (ANY, *words)))


def _found(claims: Mapping[str, Any], claim: str) -> Any:
    """The claim of that name, or, by a path of names with dots, one inside of others: `realm_access.roles`."""
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for name in claim.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [word for word in value.split() if word != ANY]
    return [word for word in value if isinstance(word, str) and word != ANY] if isinstance(value, list) else []


def _refusal(message: str) -> ApiError:
    """RFC 6750 §3.1: clients fetch a new token when they read this."""
    return ApiError(401, message, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
