"""The page behind an unsubscribe link, and the POST of mailbox providers (RFC 8058).

No cookie, no token of a form, no sign-in: the link is all that whoever clicks it has. Looking changes nothing, because
scanners follow every link of a mail; only a POST does. Whatever is wrong with a link, the answer is the same.
"""

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from accounts.audit import address_of
from relay_project.db.rates import Rate, use
from relay_project.mail.unsubscribe import Subscription
from sending.unsubscribe import LinkIsOver, read_link, resubscribe, state_of, unsubscribe

MAX_BODY = 16_384  # octets of a form with one field
BAD_LINKS = Rate("unsubscribe-bad", 30, 60)  # of one address
CLICKS = Rate("unsubscribe", 20, 60)  # on one link; providers send those of all their users from a few addresses


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe_page(request: HttpRequest, token: str) -> HttpResponse:
    """Ask, do what is asked, or say that the link is none."""
    response = _answer(request, token, datetime.now(UTC))
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex"
    return response


def _answer(request: HttpRequest, token: str, now: datetime) -> HttpResponse:
    try:
        subscription = read_link(token, now)
    except LinkIsOver:
        found = use(BAD_LINKS, address_of(request) or "", now)
        return _no_link(request) if found.allowed else _too_many(found.reset_seconds)
    if request.method == "POST":
        return _clicked(request, subscription, now)
    return render(request, "sending/unsubscribe.html", _context(subscription, now))


def _clicked(request: HttpRequest, subscription: Subscription, now: datetime) -> HttpResponse:
    """The page's own buttons lead back to it; a provider wants to hear that it is done, and follows no redirect."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if not announced.isdigit() or int(announced) > MAX_BODY:
        return HttpResponse("The request is too large.\n", status=413, content_type="text/plain")
    found = use(CLICKS, str(subscription.recipient_id), now)
    if not found.allowed:
        return _too_many(found.reset_seconds)
    if request.POST.get("do") == "resubscribe":
        resubscribe(subscription)
    else:
        unsubscribe(subscription)
    if "do" in request.POST:
        return HttpResponseRedirect(request.path, status=303)
    return HttpResponse("Unsubscribed.\n", content_type="text/plain")


def _context(subscription: Subscription, now: datetime) -> dict[str, object]:
    return {
        "subscription": subscription,
        "address": veiled(subscription.address),
        "state": state_of(subscription, now).value,
    }


def veiled(address: str) -> str:
    """An address that its owner knows again, and a stranger whom the mail was forwarded to does not learn."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def _no_link(request: HttpRequest) -> HttpResponse:
    return render(request, "sending/unsubscribe.html", {"state": "none"}, status=404)


def _too_many(seconds: int) -> HttpResponse:
    text = f"Too many requests. Please try again in {seconds} seconds.\n"
    return HttpResponse(text, status=429, content_type="text/plain", headers={"Retry-After": str(seconds)})
