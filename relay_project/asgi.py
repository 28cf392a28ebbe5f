"""The live process's application: the stream at its path and every WebSocket; the rest goes to Django."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
django = get_asgi_application()

from webhooks.live.application import PATH, LiveApplication  # noqa: E402 — after setup

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]


class Application:
    """Sends each scope where it belongs."""

    def __init__(self) -> None:
        self.live = LiveApplication()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == PATH:
            await self.live(scope, receive, send)
        else:
            await django(scope, receive, send)


application = Application()
