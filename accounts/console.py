"""The pages of signing in and out and of the local password."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.validators import MaxLengthValidator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import audit
from accounts.models import User
from accounts.oidc import end_session_url
from accounts.sign_in import TooManyTries, begin_session, is_usable, safe_next, spend_links, try_password, use_link
from relay_project.db import rates
from relay_project.db.rates import Rate

MAX_PASSWORD = 1024  # characters: no passphrase is longer, and hashing a megabyte is a favour nobody is owed
PASSWORD_CHANGES = Rate("password change", 10, 900)  # guesses at the present password from an open session


class SignInForm(forms.Form):
    """Login and password of a local account."""

    login = forms.CharField(
        max_length=254, widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"})
    )
    password = forms.CharField(
        max_length=MAX_PASSWORD, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in page. Whoever is signed in is told so and not sent on: `next` may be what sent them here."""
    if request.method != "POST":
        return _sign_in_page(request, SignInForm())
    form = SignInForm(request.POST)
    if not settings.LOCAL_SIGN_IN:
        return _sign_in_page(request, SignInForm(), error="Sign-in with a password is switched off.", status=403)
    if not form.is_valid():
        return _sign_in_page(request, form, status=400)
    try:
        person = try_password(request, form.cleaned_data["login"], form.cleaned_data["password"], datetime.now(UTC))
    except TooManyTries as refusal:
        return _locked_out(request, form, refusal.seconds)
    if person is None:
        return _sign_in_page(request, form, error="Login or password is wrong.", status=403)
    begin_session(request, person, "password")
    return HttpResponseRedirect(safe_next(request, request.POST.get("next")))


def _locked_out(request: HttpRequest, form: SignInForm, seconds: int) -> HttpResponse:
    minutes = -(-seconds // 60)
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    response = _sign_in_page(request, form, error=f"Too many tries. Try again in {wait}.", status=429)
    response["Retry-After"] = str(seconds)
    return response


def _sign_in_page(request: HttpRequest, form: SignInForm, error: str = "", status: int = 200) -> HttpResponse:
    target = safe_next(request, request.POST.get("next") or request.GET.get("next"))
    oidc_url = f"{reverse('oidc_authentication_init')}?{urlencode({'next': target})}"
    context = {
        "form": form,
        "error": error,
        "next": target,
        "local": settings.LOCAL_SIGN_IN,
        "oidc_url": oidc_url if settings.OIDC_ENABLED else None,
    }
    return render(request, "accounts/sign_in.html", context, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """A one-time link: GET shows a button, since mail scanners follow links; POST signs in."""
    now = datetime.now(UTC)
    if request.method != "POST":
        usable = is_usable(token, now)
        response = render(request, "accounts/sign_in_link.html", {"usable": usable}, status=200 if usable else 410)
        # The address is the secret, so nobody is told more than the origin. Not "no-referrer": browsers then post the
        # form with "Origin: null", which the CSRF check refuses.
        response["Referrer-Policy"] = "strict-origin"
        return response
    person = use_link(token, now)
    if person is None:
        return render(request, "accounts/sign_in_link.html", {"usable": False}, status=410)
    begin_session(request, person, "link")
    return HttpResponseRedirect(safe_next(request, None))


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session here, then at the provider.

    The way there is a page that refreshes, not a redirect: browsers hold redirects after a form to the page's
    form-action policy, which names only ourselves.
    """
    provider_url = end_session_url(request)
    auth.logout(request)
    if provider_url is None:
        return redirect(settings.LOGOUT_REDIRECT_URL)
    response = render(request, "accounts/signing_out.html", {"provider_url": provider_url})
    patch_cache_control(response, no_store=True)
    return response


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def password(request: HttpRequest) -> HttpResponseBase:
    """Set or change the password of a local account; whoever came by a link and has none need not know an old one."""
    person = request.user
    assert isinstance(person, User)
    if person.login is None or not settings.LOCAL_SIGN_IN:
        return render(request, "accounts/password.html", {"form": None}, status=403)
    form = _password_form(person, request.POST if request.method == "POST" else None)
    if request.method != "POST":
        return render(request, "accounts/password.html", {"form": form})
    use = rates.use(PASSWORD_CHANGES, str(person.pk), datetime.now(UTC))
    if not use.allowed:
        response = render(request, "accounts/password.html", {"form": form, "wait": use.reset_seconds}, status=429)
        response["Retry-After"] = str(use.reset_seconds)
        return response
    if not form.is_valid():
        return render(request, "accounts/password.html", {"form": form}, status=400)
    _change_password(request, person, form)
    messages.success(request, "Your password is changed. Other sessions of yours are signed out.")
    return redirect(settings.LOGIN_REDIRECT_URL)


def _password_form(person: User, data: Any) -> "SetPasswordForm[User]":
    form = PasswordChangeForm(person, data) if person.has_usable_password() else SetPasswordForm(person, data)
    for field in form.fields.values():
        field.validators.append(MaxLengthValidator(MAX_PASSWORD))
        field.widget.attrs["maxlength"] = MAX_PASSWORD
    return form


def _change_password(request: HttpRequest, person: User, form: "SetPasswordForm[User]") -> None:
    """Save it, end the person's open links, keep this session and no other."""
    with transaction.atomic():
        form.save()
        spend_links(person, datetime.now(UTC))
        audit.record("account.password_changed", actor=person, subject=person, address=audit.address_of(request))
        auth.update_session_auth_hash(request, person)


@never_cache
@require_http_methods(["GET", "HEAD"])
def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """In place of the admin's own form, which knows neither OIDC nor limits."""
    target = safe_next(request, request.GET.get("next") or reverse("admin:index"))
    if not request.user.is_authenticated:
        return redirect(f"{reverse('sign_in')}?{urlencode({'next': target})}")
    if not (request.user.is_active and request.user.is_staff):
        return render(request, "accounts/not_staff.html", status=403)
    return HttpResponseRedirect(target)
