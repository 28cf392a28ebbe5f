"""A project's settings: its name, how long its content is kept, and its members."""

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from accounts.staff import NoSuchPerson, SeveralPeople, find_person
from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import PRESET_VALUES, scope_rows
from projects.console.page import Place, project_page, render_place
from projects.keeping import LEAST_DAYS, content_days, keep_content, most_days
from projects.members import add_member, members_of, remove_member, rename_project
from projects.models import Membership
from projects.scopes import SCOPES, Scope
from relay_project.web.errors import ApiError


class NameForm(forms.Form):
    """The project's name."""

    name = forms.CharField(max_length=255)


class ContentForm(forms.Form):
    """How long the content of mail is kept."""

    content_days = forms.IntegerField(required=False, min_value=LEAST_DAYS, label="Keep content for")

    def clean_content_days(self) -> int | None:
        """At most as long as the instance does."""
        days: int | None = self.cleaned_data["content_days"]
        if days is not None and days > most_days():
            raise forms.ValidationError(f"At most {most_days()} days: nothing is kept for longer here.")
        return days


class MemberForm(forms.Form):
    """A person and their scopes."""

    person = forms.CharField(max_length=320)
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in SCOPES],
        error_messages={"required": "Choose at least one scope."},
    )


@require_safe
@project_page(Scope.PROJECT_READ)
def project_settings(request: HttpRequest, place: Place) -> HttpResponse:
    """The page."""
    return _page(request, place)


def _page(
    request: HttpRequest,
    place: Place,
    name_form: NameForm | None = None,
    member_form: MemberForm | None = None,
    content_form: ContentForm | None = None,
) -> HttpResponse:
    content_form = content_form or ContentForm(initial={"content_days": place.project.content_days})
    name_form = name_form or NameForm(initial={"name": place.project.name})
    member_form = member_form or MemberForm(initial={"scopes": [scope.value for scope in SCOPES]})
    context = {
        "name_form": name_form,
        "content_form": content_form,
        "content_days": content_days(place.project),
        "most_days": most_days(),
        "member_form": member_form,
        "members": members_of(place.project).order_by("pk"),
        "scope_count": len(SCOPES),
        "scope_rows": scope_rows(list(member_form["scopes"].value() or []), place.caller.scopes),
        "presets": PRESET_VALUES,
    }
    status = 400 if name_form.errors or member_form.errors or content_form.errors else 200
    return render_place(request, place, "console/settings.html", context, section="settings", status=status)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def rename(request: HttpRequest, place: Place) -> HttpResponse:
    """Another name."""
    form = NameForm(request.POST)
    if not form.is_valid():
        return _page(request, place, name_form=form)
    rename_project(place.project, form.cleaned_data["name"], place.caller)
    messages.success(request, "The name is saved.")
    return redirect("console-settings", place.project.pk)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def set_content_days(request: HttpRequest, place: Place) -> HttpResponse:
    """Another time for the content of mail."""
    form = ContentForm(request.POST)
    if not form.is_valid():
        return _page(request, place, content_form=form)
    keep_content(place.project, form.cleaned_data["content_days"], place.caller)
    messages.success(request, f"Content is kept for {content_days(place.project)} days.")
    return redirect("console-settings", place.project.pk)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def new_member(request: HttpRequest, place: Place) -> HttpResponse:
    """Add somebody who has signed in here before."""
    form = MemberForm(request.POST)
    if form.is_valid():
        try:
            person = find_person(form.cleaned_data["person"])
            add_member(place.project, person.pk, form.cleaned_data["scopes"], place.caller)
            messages.success(request, f"{person} is a member now.")
            return redirect("console-settings", place.project.pk)
        except NoSuchPerson:
            form.add_error("person", "Nobody with this address has an account here. They must sign in once first.")
        except SeveralPeople:
            form.add_error("person", "Several accounts have this address. Ask staff for the person's id and type that.")
        except ApiError as refusal:
            form.add_error(None, refusal.message)
    return _page(request, place, member_form=form)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def drop_member(request: HttpRequest, place: Place, membership_id: int) -> HttpResponse:
    """Remove somebody; whoever removes themselves leaves the project's pages."""
    try:
        membership = entity(Membership.objects.select_related("user", "project"), place.project, membership_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error
    remove_member(membership, place.caller)
    messages.success(request, f"{membership.user} is no longer a member.")
    if membership.user_id == place.user.pk:
        return redirect("console-start")
    return redirect("console-settings", place.project.pk)
