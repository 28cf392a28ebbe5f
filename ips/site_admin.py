"""Staff admin: receiving sites, what they allow, what they taught us, and which of them are held."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import audit
from ips import sites
from ips.models import HeldSite, SendCount, SiteLimit, SitePause, SourceIp
from queues.models import Queue
from relay_project.mail.mx import PROVIDERS, limits_of
from relay_project.mail.rates import Limits
from relay_project.web.staff import Confirmation, Facts, Link, WithReason, asked_above_list, column, confirmed

SHORT = 60  # characters of a reply in the list; its page has all of it
LIMITS = ("connections", "messages_per_connection", "per_second", "per_minute", "per_hour")


def _number(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=1,
        max_value=sites.MAX_LIMIT,
        widget=UnfoldAdminIntegerFieldWidget(),
    )


class LimitsForm(Confirmation):
    """What one source IP may do at a site; empty: what more general limits say."""

    connections = _number("Connections at once")
    messages_per_connection = _number("Messages per connection")
    per_second = _number("Messages a second")
    per_minute = _number("Messages a minute")
    per_hour = _number("Messages an hour")


class WhichSite(Confirmation):
    """A site, and whose mail to it."""

    site = forms.CharField(
        max_length=sites.MAX_SITE,
        widget=UnfoldAdminTextInputWidget(),
        help_text="A provider such as google, or MX hosts in order, joined by commas, as held sites and attempts show it.",
    )
    source_ip = forms.ModelChoiceField(
        SourceIp.objects.all(),
        label="Source IP",
        required=False,
        empty_label="Every source IP",
        widget=UnfoldAdminSelectWidget(),
    )


class NewLimits(WhichSite, LimitsForm):
    """Limits of a site."""

    field_order = ("site", "source_ip", *LIMITS)


class NewPause(WhichSite):
    """A site, and why nothing shall go there."""

    field_order = ("site", "source_ip", "reason")
    reason = WithReason.base_fields["reason"]


class Standing(admin.SimpleListFilter):
    """What a row is there for."""

    title = "standing"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The choices."""
        return [("paused", "Paused"), ("alone", "Left alone"), ("learned", "Learned"), ("limited", "Limited by staff")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """The chosen ones."""
        limited = Q(*((f"{name}__isnull", False) for name in LIMITS), _connector=Q.OR)
        wanted = {
            "paused": Q(paused_at__isnull=False),
            "alone": Q(back_off_until__gt=timezone.now()),
            "learned": Q(learned_at__isnull=False),
            "limited": limited,
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


@admin.register(SiteLimit)
class SiteLimitAdmin(Facts):
    """Limits that staff set, pauses, and what sites taught us by their replies."""

    computed = ("standing", "in_force", "provider_default")
    list_display = (
        "site",
        "whose",
        "standing",
        "set_by_staff",
        "learned",
        "left_alone_until",
        "why",
    )
    list_select_related = ("source_ip",)
    list_filter = (Standing, "source_ip")
    search_fields = ("site",)
    search_help_text = "Site"
    actions_list = ("limit_site", "pause_site")
    actions_detail = ("set_limits", "pause", "resume", "forget_learned", "flush")

    @column("standing", label={"paused": "danger", "left alone": "warning", "learned": "info", "limited": "success"})
    def standing(self, row: SiteLimit) -> str:
        """The strongest of what it says."""
        if row.paused_at:
            return "paused"
        if row.back_off_until and row.back_off_until > timezone.now():
            return "left alone"
        return "learned" if row.learned_at else "limited"

    @column("from")
    def whose(self, row: SiteLimit) -> str:
        """The source IP that it holds for."""
        return str(row.source_ip or "every source IP")

    @column("left alone until", ordering="back_off_until")
    def left_alone_until(self, row: SiteLimit) -> str:
        """The end of the pause that a reply led to."""
        is_over = row.back_off_until is None or row.back_off_until <= timezone.now()
        return "–" if is_over else f"{row.back_off_until:%H:%M:%S}"

    @column("why")
    def why(self, row: SiteLimit) -> str:
        """What staff or the site said."""
        said = row.pause_reason or row.learned_reply
        return (said if len(said) <= SHORT else f"{said[: SHORT - 1]}…") or "–"

    @column("limits of staff")
    def set_by_staff(self, row: SiteLimit) -> str:
        """As words."""
        return in_words(_limits(row)) or "–"

    @column("learned limits")
    def learned(self, row: SiteLimit) -> str:
        """As words."""
        return in_words(Limits(row.learned_connections, per_minute=row.learned_per_minute)) or "–"

    @column("all together, without lessons")
    def in_force(self, row: SiteLimit) -> str:
        """This row over everybody's, over the provider's, over the settings; without what was learned."""
        general = limits_of(row.site).over(Limits(settings.SITE_CONNECTIONS))
        everybodys = SiteLimit.objects.filter(site=row.site, source_ip=None).first()
        for narrower in (everybodys, row):
            general = _limits(narrower).over(general) if narrower else general
        return in_words(general)

    @column("default of the provider")
    def provider_default(self, row: SiteLimit) -> str:
        """With the source of the figures."""
        provider = next((one for one in PROVIDERS if one.name == row.site and one.limits_source), None)
        return f"{in_words(provider.limits)} ({provider.limits_source})" if provider else "–"

    @asked_above_list(
        "Limit a site",
        question="What may one source IP do at a site? Empty: what more general limits say. Senders follow in seconds.",
        icon="speed",
        form=NewLimits,
    )
    def limit_site(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Set the limits of a site that may have no row yet."""
        return _set_limits(request, data["site"], data["source_ip"], data)

    @asked_above_list(
        "Pause a site",
        question="No mail to the site will be started until it is resumed; it waits, and says why. What is in flight ends.",
        icon="pause",
        form=NewPause,
    )
    def pause_site(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Start no more mail to a site that may have no row yet."""
        return _pause(request, data["site"], data["source_ip"], data["reason"])

    @confirmed(
        "Set limits",
        question="What may one source IP do at {}? Empty: what more general limits say. Continue?",
        icon="speed",
        form=LimitsForm,
        initial=lambda row: {name: getattr(row, name) for name in LIMITS},
        removes=True,
    )
    def set_limits(self, request: HttpRequest, row: SiteLimit, data: dict[str, Any]) -> str:
        """Change them."""
        return _set_limits(request, row.site, row.source_ip, data)

    @confirmed(
        "Pause",
        question="No mail to {} will be started until it is resumed; it waits, and says why. Continue?",
        icon="pause",
        form=WithReason,
        fits=lambda row: row.paused_at is None,
        danger=True,
    )
    def pause(self, request: HttpRequest, row: SiteLimit, data: dict[str, Any]) -> str:
        """Start no more mail."""
        return _pause(request, row.site, row.source_ip, data["reason"])

    @confirmed(
        "Resume",
        question="Mail to {} will go again, as fast as its limits allow. Continue?",
        icon="play_arrow",
        fits=lambda row: row.paused_at is not None,
        removes=True,
    )
    def resume(self, request: HttpRequest, row: SiteLimit, data: dict[str, Any]) -> str:
        """Let mail go again."""
        sites.resume_site(row.site, source_ip=row.source_ip, **_by(request))
        return f"{row.site} is resumed."

    @confirmed(
        "Forget what was learned",
        question="Mail to {} will go at full pace at once. If the site still minds, it will say so again. Continue?",
        icon="psychology_alt",
        fits=lambda row: row.learned_at is not None,
        removes=True,
    )
    def forget_learned(self, request: HttpRequest, row: SiteLimit, data: dict[str, Any]) -> str:
        """Take back what replies led to."""
        sites.forget_learned(row.site, source_ip=row.source_ip, **_by(request))
        return f"What {row.site} had taught {row.source_ip} is forgotten."

    @confirmed(
        "Try again now",
        question="Mail to {} will be tried again at once, one first; the learned pace stays. Continue?",
        icon="fast_forward",
        fits=lambda row: row.back_off_until is not None and row.back_off_until > timezone.now(),
    )
    def flush(self, request: HttpRequest, row: SiteLimit, data: dict[str, Any]) -> str:
        """End the pause that a throttle led to."""
        sites.flush(row.site, source_ip=row.source_ip, **_by(request))
        return f"{row.site} is tried again."


class StillHeld(admin.SimpleListFilter):
    """Those that are held now; rows outlive that for some minutes."""

    title = "slot"
    parameter_name = "slot"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What else may be shown."""
        return [("any", "Passed as well")]

    def choices(self, changelist: Any) -> Any:
        """The first is what an untouched list shows."""
        first, *others = super().choices(changelist)
        return [{**first, "display": "To come"}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[HeldSite]) -> QuerySet[HeldSite]:
        """The list only: a row's page stays."""
        return queryset if self.value() == "any" else queryset.filter(sites.held_now(timezone.now()))


@admin.register(HeldSite)
class HeldSiteAdmin(Facts):
    """Receiving sites that may not be tried now, and why."""

    list_display = ("id", "site", Link("queue", Queue), "carried_by", "next_slot", "reason")
    list_display_links = ("id", "site")
    list_filter = (StillHeld, "queue")
    search_fields = ("site",)
    search_help_text = "Site"
    actions_detail = ("pause", "flush")

    @column("carried by")
    def carried_by(self, held: HeldSite) -> str:
        """Retries stay on their source IP."""
        return f"{held.source_ip} (retries)" if held.source_ip else "any source IP of the queue"

    @confirmed(
        "Pause the site",
        question="No mail to {} will be started, from any source IP, until it is resumed. Continue?",
        icon="pause",
        form=WithReason,
        danger=True,
    )
    def pause(self, request: HttpRequest, held: HeldSite, data: dict[str, Any]) -> str:
        """Start no more mail."""
        return _pause(request, held.site, None, data["reason"])

    @confirmed(
        "Try again now",
        question="The pauses that this site's replies led to end now, for {}. Limits stay. Continue?",
        icon="fast_forward",
    )
    def flush(self, request: HttpRequest, held: HeldSite, data: dict[str, Any]) -> str:
        """End the pauses that throttles led to."""
        ended = sites.flush(held.site, **_by(request))
        return f"{held.site} is tried again." if ended else f"{held.site} was not left alone after a reply."


@admin.register(SitePause)
class SitePauseAdmin(Facts):
    """Times in which sites stood still, once they are over; a pause under way is a site limit."""

    list_display = ("id", "site", Link("source_ip", SourceIp, "address"), "began_at", "ended_at", "reason")
    search_fields = ("site",)
    search_help_text = "Site"


@admin.register(SendCount)
class SendCountAdmin(Facts):
    """Messages that source IPs began, by day, and by hour at sites that are limited by the hour."""

    list_display = (Link("source_ip", SourceIp, "address"), "window", "window_start", "site", "count")
    list_filter = ("window", "source_ip")
    ordering = ("-window_start", "source_ip")


def in_words(limits: Limits) -> str:
    """Limits as people say them; empty without any."""
    words = [f"{limits.connections} connections"] if limits.connections else []
    words += [f"{limits.messages_per_connection} messages each"] if limits.messages_per_connection else []
    return ", ".join([*words, *([limits.words] if limits.words else [])])


def _limits(row: SiteLimit) -> Limits:
    return Limits(**{name: getattr(row, name) for name in LIMITS})


def _by(request: HttpRequest) -> dict[str, Any]:
    return {"actor": audit.actor_of(request), "now": timezone.now(), "address": audit.address_of(request)}


def _set_limits(request: HttpRequest, site: str, source_ip: SourceIp | None, data: dict[str, Any]) -> str:
    limits = Limits(**{name: data[name] for name in LIMITS})
    changed = sites.set_limits(site, limits, source_ip=source_ip, **_by(request))
    words = in_words(limits) or "no limits of its own"
    return f"{site} from {source_ip or 'every source IP'}: {words}." if changed else f"{site}: nothing has changed."


def _pause(request: HttpRequest, site: str, source_ip: SourceIp | None, reason: str) -> str:
    paused = sites.pause_site(site, source_ip=source_ip, reason=reason, **_by(request))
    return f"{site} is paused." if paused else f"{site} was paused already."
