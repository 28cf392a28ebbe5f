"""Light, dark, or as the reader's system says: a cookie that only the reader's own choice writes."""

from enum import StrEnum
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_POST

COOKIE = "relay_theme"
COOKIE_SECONDS = 365 * 24 * 3600  # browsers keep none longer than 400 days


class Theme(StrEnum):
    """What may stand in the cookie."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


def chosen_theme(request: HttpRequest) -> Theme:
    """The reader's choice; a cookie with anything else in it counts as none."""
    try:
        return Theme(request.COOKIES.get(COOKIE, Theme.SYSTEM))
    except ValueError:
        return Theme.SYSTEM


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remember the choice and go back to the page it was made on. Needs no sign-in."""
    response = HttpResponseRedirect(_way_back(request))
    try:
        theme = Theme(request.POST.get("theme", ""))
    except ValueError:
        return response
    # relay.js writes the same cookie without asking the server, so it is not HttpOnly; it holds no secret.
    response.set_cookie(COOKIE, theme, COOKIE_SECONDS, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
    return response


def _way_back(request: HttpRequest) -> str:
    """The path of the page before, when it is one of ours."""
    before = urlsplit(request.headers.get("Referer", ""))
    if before.netloc != request.get_host() or not before.path.startswith("/") or before.path.startswith("//"):
        return "/console/"
    return before.path + (f"?{before.query}" if before.query else "")
