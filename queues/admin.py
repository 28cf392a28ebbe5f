"""Staff admin: queues, with pause and resume."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from accounts import audit
from queues import pause
from queues.models import Pause, Queue
from relay_project.web.staff import Facts, Link, WithReason, column, confirmed

ORDERS = ("flush", "reroute", "purge")


@admin.register(Pause)
class PauseAdmin(Facts):
    """Times in which queues stood still."""

    list_display = ("id", Link("queue", Queue), "began_at", "ended_at", "reason")
    list_filter = ("queue",)


@admin.register(Queue)
class QueueAdmin(Facts):
    """Queues and whether they run."""

    list_display = ("id", "name", "is_default", "state", "pause_reason", "created_at")
    list_display_links = ("id", "name")
    computed = ("orders",)
    actions_detail = ("pause", "resume")

    @column("state", label={"running": "success", "paused": "warning"})
    def state(self, queue: Queue) -> str:
        """Whether mail is claimed from it."""
        return "paused" if queue.paused_at else "running"

    @column("its mail")
    def orders(self, queue: Queue) -> SafeString:
        """What can be ordered over all that waits in it; by name, as the orders belong to a higher floor."""
        links = ((reverse(f"admin:sending_operation_{kind}"), queue.pk, kind.title()) for kind in ORDERS)
        return format_html_join(" · ", '<a href="{}?queue={}">{}</a>', links)

    @confirmed(
        "Pause",
        question="No mail of the queue “{}” will be started until it is resumed. What is in flight ends. Continue?",
        icon="pause",
        form=WithReason,
        fits=lambda queue: queue.paused_at is None,
        danger=True,
    )
    def pause(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """Stop claiming."""
        now = timezone.now()
        pause.pause(
            queue, reason=data["reason"], actor=audit.actor_of(request), now=now, address=audit.address_of(request)
        )
        return f"{queue} is paused."

    @confirmed(
        "Resume",
        question="All mail that waits in the queue “{}” will be due at once. Continue?",
        icon="play_arrow",
        fits=lambda queue: queue.paused_at is not None,
    )
    def resume(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """Claim again."""
        pause.resume(queue, actor=audit.actor_of(request), now=timezone.now(), address=audit.address_of(request))
        return f"{queue} runs again."
