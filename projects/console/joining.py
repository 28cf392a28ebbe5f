"""The page behind an invitation's link: joining a project as who one is, or with a new account; and leaving one."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.password_validation import validate_password
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django.views.generic import View

from accounts.audit import address_of
from accounts.models import User
from accounts.sign_in import begin_session
from accounts.staff import create_local
from projects.access import Caller, memberships_of
from projects.console.page import person_of
from projects.invitations import AlreadyMember, NotOpen, accept, find_open
from projects.members import remove_member
from projects.models import Membership
from projects.roles import role_of
from relay_project.db import rates
from relay_project.db.rates import Rate
from relay_project.net.addresses import network_of
from relay_project.web.errors import ApiError

WRONG_LINKS = Rate("invitation links", 30, 60)  # of one network; nobody guesses 256 bits, but trying is no service
MAX_PASSWORD = 1024  # characters, as accounts.console


class AccountForm(forms.Form):
    """What a new local account needs beside the address that was invited."""

    name = forms.CharField(max_length=255, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password = forms.CharField(
        max_length=MAX_PASSWORD, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )

    def clean_password(self) -> str:
        """One that the rules of passwords let pass."""
        password: str = self.cleaned_data["password"]
        validate_password(password)
        return password


@method_decorator(never_cache, name="dispatch")
@method_decorator(sensitive_post_parameters("password"), name="dispatch")
class InvitationPage(View):
    """GET shows who invites where, since mail scanners follow links; POST joins."""

    http_method_names = ("get", "head", "post")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Find the invitation first; whatever is wrong with a link, the page is the same."""
        self.now = datetime.now(UTC)
        self.token: str = kwargs["token"]
        try:
            self.invitation = find_open(self.token, self.now)
        except NotOpen:
            return self._gone()
        response = super().dispatch(request, *args, **kwargs)
        # The address is the secret: nobody is told more than the origin (not "no-referrer", see accounts.console).
        response["Referrer-Policy"] = "strict-origin"
        return response

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        """The page."""
        return self._page()

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        """Join as the person who is signed in, or with a new account."""
        if isinstance(request.user, User):
            return self._join(request.user)
        if not self._may_make_account():
            return self._page(status=403)
        form = AccountForm(request.POST)
        if not form.is_valid():
            return self._page(form, status=400)
        return self._join_anew(form)

    def _join(self, person: User) -> HttpResponse:
        try:
            membership = accept(self.token, person, self.now, address_of(self.request) or "")
        except NotOpen:
            return self._gone()
        except AlreadyMember:
            messages.info(self.request, "You belong to this project already; the invitation stays open.")
            return redirect("console-overview", self.invitation.project_id)
        return self._welcome(membership)

    def _join_anew(self, form: AccountForm) -> HttpResponse:
        """The account and the membership in one transaction: no account stays of a link that ended meanwhile."""
        try:
            with transaction.atomic():
                person = create_local(self.invitation.email, form.cleaned_data["name"], by="invitation")
                person.set_password(form.cleaned_data["password"])
                person.save(update_fields=["password"])
                membership = accept(self.token, person, self.now, address_of(self.request) or "")
        except IntegrityError:
            return self._page(status=409)
        except NotOpen:
            return self._gone()
        begin_session(self.request, person, "invitation")
        return self._welcome(membership)

    def _welcome(self, membership: Membership) -> HttpResponse:
        messages.success(self.request, f"Welcome to {membership.project}.")
        return redirect("console-overview", membership.project_id)

    def _may_make_account(self) -> bool:
        """Only the holder of the invited mailbox learns here whether it has a login."""
        if not settings.LOCAL_SIGN_IN:
            return False
        return not User.objects.filter(login=self.invitation.email.casefold()).exists()

    def _page(self, form: AccountForm | None = None, status: int = 200) -> HttpResponse:
        context = {
            "invitation": self.invitation,
            "role": role_of(self.invitation.scopes),
            "form": (form or AccountForm()) if self._may_make_account() else None,
            "sign_in_url": f"{reverse('sign_in')}?{urlencode({'next': self.request.path})}",
        }
        return render(self.request, "console/invitation.html", context, status=status)

    def _gone(self) -> HttpResponse:
        use = rates.use(WRONG_LINKS, network_of(address_of(self.request)), self.now)
        status = 410 if use.allowed else 429
        response = render(self.request, "console/invitation_gone.html", {"wait": not use.allowed}, status=status)
        if not use.allowed:
            response["Retry-After"] = str(use.reset_seconds)
        return response


@require_POST
@login_required
def leave(request: HttpRequest, membership_id: int) -> HttpResponse:
    """Leave a project; needs no scope in it."""
    person = person_of(request)
    membership = memberships_of(person).filter(pk=membership_id).first()
    if membership is None:
        raise Http404
    caller = Caller(frozenset(), membership.project, user=person, address=address_of(request) or "")
    try:
        remove_member(membership, caller)
        messages.success(request, f"You have left {membership.project}.")
    except ApiError as refusal:
        messages.error(request, refusal.message)
    return redirect("console-account")
