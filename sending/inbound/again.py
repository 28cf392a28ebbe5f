"""Read again: staff give a mail that came in back to the reader, after a repair or a new version."""

from django.db import connection, transaction

from accounts import audit
from accounts.models import User
from sending.models import InboundMail, InboundState

# Feedback is kept once for each recipient and type, so that a mail read twice changes nothing the second time.
_UNREAD = """
INSERT INTO sending_unreadmail (mail_id, due_at, tries, size_bytes) VALUES (%s, clock_timestamp(), 0, %s)
ON CONFLICT (mail_id) DO UPDATE SET due_at = EXCLUDED.due_at, tries = 0
"""


def is_read(mail: InboundMail) -> bool:
    """Whether the reader is done with it, so that it can be read again. What was handed on would be told twice."""
    return mail.state not in (InboundState.WAITING, InboundState.HANDED_ON)


def read_again(mail: InboundMail, *, actor: User | None, address: str | None = None) -> bool:
    """Have the reader take it anew; False when it waits, or was handed on."""
    with transaction.atomic():
        changed = (
            InboundMail.objects.filter(pk=mail.pk)
            .exclude(state__in=(InboundState.WAITING, InboundState.HANDED_ON))
            .update(state=InboundState.WAITING, trouble="")
        )
        if changed:
            with connection.cursor() as cursor:
                cursor.execute(_UNREAD, [mail.pk, mail.size_bytes])
            audit.record("inbound_mail.read_again", actor=actor, subject=mail, address=address)
    return bool(changed)
