"""Tokens with which pages open the live stream; the stream itself is run_live's."""

from datetime import UTC, datetime

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.objects import timestamp
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.schema import answer, moment, string
from webhooks.live.tokens import make_token

PATH = "/api/console/live"
LIVE_TOKEN = answer(
    "LiveToken",
    {
        "token": string("For the query of the stream's address, as `token`."),
        "expires_at": moment("Until then a stream can be opened with it."),
        "url": string("Where the stream is, over HTTP."),
        "websocket_url": string("Where it is as a WebSocket."),
    },
)
EXAMPLE: dict[str, object] = {
    "token": "gAAAAABqF0…",
    "expires_at": 1795315371,
    "url": "https://relay.example.com/api/console/live",
    "websocket_url": "wss://relay.example.com/api/console/live",
}


class LiveTokenView(Endpoint):
    """`/live/token`."""

    section = "Live stream"
    required_scope = by_method(POST=Scope.SENDS_READ)

    @describe(
        "createLiveToken",
        "Make a token for the live stream",
        "A page's WebSocket or EventSource cannot send headers. The token opens streams of this project alone and does "
        "nothing else, for five minutes; it shows what its maker may see at the time it is used.",
        answer=LIVE_TOKEN,
        sample=EXAMPLE,
    )
    def post(self, request: Request) -> Response:
        """A token of the caller."""
        session = getattr(request._request, "session", None)
        by_session = self.caller.api_key is None and not self.caller.by_token
        token, ends_at = make_token(
            self.caller, session.session_key if by_session and session else None, datetime.now(UTC)
        )
        return Response({"token": token, "expires_at": timestamp(ends_at), **addresses()})


def addresses() -> dict[str, str]:
    """Where the stream is."""
    url = (settings.LIVE_URL or settings.WEB_URL) + PATH
    return {"url": url, "websocket_url": url.replace("http", "ws", 1)}
