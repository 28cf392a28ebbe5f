"""What is sent for a row: its body as it was frozen, signed for this try, with the webhook's own headers."""

from datetime import datetime

from webhooks.deliver.lane import Hook, Row
from webhooks.post import Call
from webhooks.signature import signature_headers

# Those of the message itself; a webhook's own headers do not replace them, nor those that sign.
_OURS = frozenset({"host", "connection", "content-type", "content-length", "transfer-encoding", "user-agent"})


def call_of(row: Row, hook: Hook, now: datetime) -> Call:
    """The call of a try that is made now. The event's id is the same in every try and replay of it."""
    body = row.body.encode()
    signed = signature_headers(body, str(row.event_id), int(now.timestamp()), hook.secrets)
    taken = _OURS | {name.lower() for name in signed}
    own = {name: value for name, value in hook.headers if name.lower() not in taken}
    return Call(row.url, body, own | signed)
