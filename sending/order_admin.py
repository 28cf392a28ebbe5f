"""Staff admin: orders over waiting mail. The page does what fits into a moment, housekeeping the rest."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts import audit
from ips.models import HeldSite
from projects.models import Project
from queues.models import Queue
from relay_project.mail.address import InvalidDomain
from relay_project.web.staff import Confirmation, Facts, Link, Preview, asked_above_list, column, confirmed
from sending.backlog import orders
from sending.backlog.orders import By, Order
from sending.backlog.stretch import Wanted, count, read_domain
from sending.models import Measurement, Operation, OperationKind

PAGE_SECONDS = 2.0  # of an order that a page carries out; the rest is housekeeping's
SITES = 200  # offered


class SiteField(forms.ChoiceField):
    """A receiving site on which mail hangs now."""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            choices=_sites,
            widget=UnfoldAdminSelectWidget(),
            help_text="Mail that hangs there, or whose last try was there.",
        )

    def valid_value(self, value: str) -> bool:
        """Any name: the list is of this moment."""
        return len(value) <= 253


def _sites() -> list[tuple[str, str]]:
    names = HeldSite.objects.order_by("site").values_list("site", flat=True).distinct()[:SITES]
    return [("", "Every site"), *((name, name) for name in names)]


class WhichMail(Confirmation):
    """A queue's waiting mail, all of it or a part."""

    queue = forms.ModelChoiceField(Queue.objects.all(), empty_label=None, widget=UnfoldAdminSelectWidget())
    project = forms.ModelChoiceField(
        Project.objects.order_by("name"),
        required=False,
        empty_label="Every project",
        widget=UnfoldAdminSelectWidget(),
    )
    domain = forms.CharField(
        required=False, max_length=253, widget=UnfoldAdminTextInputWidget(), help_text="Of the recipients."
    )
    site = SiteField()

    def clean_domain(self) -> str:
        """As waiting rows have it."""
        try:
            return read_domain(self.cleaned_data["domain"])
        except InvalidDomain as error:
            raise forms.ValidationError(f"This is {error}.") from error


def _reason(help_text: str) -> forms.CharField:
    return forms.CharField(max_length=orders.MAX_REASON, widget=UnfoldAdminTextInputWidget(), help_text=help_text)


class FlushForm(WhichMail):
    """What shall be due now."""

    with_scheduled = forms.BooleanField(required=False, label="Scheduled mail as well", widget=UnfoldBooleanWidget())
    reason = _reason("Kept in the audit log.")


class RerouteForm(WhichMail):
    """What shall wait elsewhere."""

    to = forms.ModelChoiceField(Queue.objects.all(), empty_label=None, widget=UnfoldAdminSelectWidget())
    reason = _reason("Kept in the audit log.")
    field_order = ("queue", "to", "project", "domain", "site", "reason")

    def clean(self) -> dict[str, Any]:
        """To another queue."""
        data = super().clean() or {}
        if data.get("to") is not None and data.get("to") == data.get("queue"):
            self.add_error("to", "The mail is in this queue already.")
        return data


class PurgeForm(WhichMail):
    """What shall not be sent any more."""

    reason = _reason("Kept in the audit log, and shown to those whose mail it is.")


def _wanted(data: dict[str, Any]) -> Wanted:
    project = data["project"]
    return Wanted(data["queue"].pk, project.pk if project else None, data["domain"], data["site"])


def _preview(verb: str, what: str, data: dict[str, Any]) -> Preview:
    counted = count(_wanted(data))
    if counted is None:
        return Preview(f"In “{data['queue']}” how much fits takes too long to count. {what} Continue?", verb)
    if not counted.movable:
        return Preview(f"In “{data['queue']}” {counted}. There is nothing to {verb.lower()}.", "")
    more, noun = "more than " if counted.is_more else "", "recipient" if counted.movable == 1 else "recipients"
    question = f"In “{data['queue']}” {counted}. {what} Continue?"
    return Preview(question, f"{verb} {more}{counted.movable:,} {noun}")


def preview_flush(data: dict[str, Any]) -> Preview:
    """What a flush would do."""
    scheduled = "Scheduled mail leaves as well." if data["with_scheduled"] else "Scheduled mail keeps its time."
    return _preview("Flush", f"What waits for a time is due now. {scheduled}", data)


def preview_reroute(data: dict[str, Any]) -> Preview:
    """What a reroute would do."""
    return _preview("Reroute", f"All of it moves to “{data['to']}” and leaves by that queue's source IPs.", data)


def preview_purge(data: dict[str, Any]) -> Preview:
    """What a purge would do."""
    return _preview("Purge", "All of it is cancelled for good.", data)


@admin.register(Operation)
class OperationAdmin(Facts):
    """Orders of staff over waiting mail, and how far they are."""

    list_display = (
        "id",
        "kind",
        Link("queue", Queue),
        "mail",
        "state",
        "progress",
        "ordered_by",
        "ordered_at",
    )
    links = (Link("target", Queue), Link("project", Project))
    list_filter = ("kind", "queue")
    actions_list = ("flush", "reroute", "purge")
    actions_detail = ("stop",)

    @column("which mail")
    def mail(self, operation: Operation) -> str:
        """The filters, and where it goes."""
        project = getattr(operation, "project_label", None) or operation.project_id
        filters = (f"of {project}" if project else "", f"to {operation.domain}" if operation.domain else "")
        words = " ".join(filter(None, (*filters, f"at {operation.site}" if operation.site else ""))) or "all of it"
        target = getattr(operation, "target_label", None)
        return f"{words} → {target}" if target else words

    @column("so far")
    def progress(self, operation: Operation) -> str:
        """How far it is."""
        return told(operation)

    @column("state", label={"under way": "info", "done": "success", "stopped": "warning"})
    def state(self, operation: Operation) -> str:
        """Whether it goes on."""
        if operation.stopped_at:
            return "stopped"
        return "done" if operation.ended_at else "under way"

    @asked_above_list(
        "Flush",
        question="Which waiting mail shall be due now? What is in flight is left alone; limits of sites hold.",
        icon="fast_forward",
        form=FlushForm,
        preview=preview_flush,
    )
    def flush(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Everything is due now."""
        return _give(request, OperationKind.FLUSH, data, with_scheduled=data["with_scheduled"])

    @asked_above_list(
        "Reroute",
        question="Which waiting mail shall go by another queue? What is in flight is left alone.",
        icon="alt_route",
        form=RerouteForm,
        preview=preview_reroute,
    )
    def reroute(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Mail goes by another queue."""
        return _give(request, OperationKind.REROUTE, data, target=data["to"])

    @asked_above_list(
        "Purge",
        question="Which waiting mail shall not be sent? It ends as cancelled, which cannot be undone.",
        icon="delete_sweep",
        form=PurgeForm,
        danger=True,
        preview=preview_purge,
    )
    def purge(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Mail is cancelled."""
        return _give(request, OperationKind.PURGE, data)

    @confirmed(
        "Stop",
        question="The rest of the order “{}” is taken back; what was done stays done. Continue?",
        icon="stop",
        fits=lambda operation: operation.ended_at is None,
        danger=True,
    )
    def stop(self, request: HttpRequest, operation: Operation, data: dict[str, Any]) -> str:
        """Take the rest back."""
        stopped = orders.stop(operation, _by(request), timezone.now())
        return f"The order is stopped. {told(operation)}" if stopped else "The order had ended."


@admin.register(Measurement)
class MeasurementAdmin(Facts):
    """Figures that housekeeping reads for probes and pages."""

    list_display = ("name", "value", "measured_at", "seconds")
    ordering = ("name",)


def told(operation: Operation) -> str:
    """How far an order is: `120 recipients done; 3 in flight were left.`"""
    done = "1 recipient" if operation.done == 1 else f"{operation.done:,} recipients"
    left = [
        f"{number:,} {what} {'was' if number == 1 else 'were'} left"
        for number, what in ((operation.left_in_flight, "in flight"), (operation.left_scheduled, "scheduled"))
        if number
    ]
    return "; ".join([f"{done} done", *left]) + "."


def _by(request: HttpRequest) -> By:
    return By(audit.actor_of(request), audit.address_of(request))


def _give(request: HttpRequest, kind: OperationKind, data: dict[str, Any], **more: Any) -> str:
    operation = orders.give(Order(kind, _wanted(data), data["reason"], **more), _by(request), timezone.now())
    if orders.run(operation, PAGE_SECONDS):
        return f"{kind.label} of {operation.queue}: {told(operation)}"
    return f"{kind.label} of {operation.queue} goes on by itself. So far: {told(operation)}"
