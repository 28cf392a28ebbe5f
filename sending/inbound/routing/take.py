"""Take: mails that fit a route become their project's, in the transaction of the reader that read them.

So does a report about a mail that was passed on, if it came by the return path and from the null sender: it goes back to
whose mail that was. Nothing else does, so that nothing can be sent through here, and nobody answers an answer.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import id_soon
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from sending.inbound.addresses import of_path
from sending.inbound.correlate import GoesBack
from sending.inbound.mail import Inbound
from sending.inbound.routing.match import Rule, rule_of
from sending.models import RouteAction

MAX_ADDRESS = 512  # characters, the column's
NO_ROUTE = 0

TAKEN = Counter("relay_inbound_routed_total", "Mails that fitted a route of a project.", ["action"])

# A mail that is read again is not taken again.
_TAKE = """
WITH given AS MATERIALIZED (
  SELECT new_id() AS id, v.* FROM jsonb_to_recordset(%s::jsonb)
         AS v(project bigint, mail bigint, route bigint, recipients text[], mail_from text, size int, forward_to text[],
              returns bigint)
   WHERE NOT EXISTS (SELECT FROM sending_receivedmail r WHERE r.mail_id = v.mail AND r.id > %s AND r.id < %s)),
received AS (
  INSERT INTO sending_receivedmail (id, project_id, mail_id, route_id, recipients, mail_from, from_address, subject,
         message_id, size_bytes, attachment_count, authentication, hints, forward_to, returns_send_id)
  SELECT id, project, mail, route, recipients, mail_from, '', '', '', size, 0, '{}', '{}', forward_to, returns FROM given)
INSERT INTO sending_unexaminedmail (received_id, due_at, tries) SELECT id, clock_timestamp(), 0 FROM given
"""


Way = tuple[Inbound, GoesBack | None]


def take(cursor: CursorWrapper, mails: Sequence[Way], now: datetime) -> set[int]:
    """Write a row for each route that a mail fits; returns the ids of the mails that fitted one, dropped ones as well."""
    rows: list[dict[str, Any]] = []
    fitted: set[int] = set()
    for mail, back in mails:
        if back is not None and back.sender and not mail.mail_from:
            rows.append(_row_back(mail, back))
        for rule, recipients in _by_rule(mail.recipients).items():
            fitted.add(mail.mail_id)
            TAKEN.labels(rule.action.value).inc()
            if rule.action in (RouteAction.EVENT, RouteAction.FORWARD):
                rows.append(_row(mail, rule, recipients))
    if rows:
        cursor.execute(_TAKE, [orjson.dumps(rows).decode(), min(row["mail"] for row in rows), id_soon(now)])
    return fitted


def _by_rule(recipients: Iterable[str]) -> dict[Rule, list[str]]:
    """Whose mail it is. A route that was changed since RCPT to refuse an address does so silently: nothing bounces later."""
    found: dict[Rule, list[str]] = {}
    for recipient in dict.fromkeys(recipients):
        rule = rule_of(recipient) if of_path(recipient) is None else None
        if rule is not None and rule.action is not RouteAction.REJECT:
            found.setdefault(rule, []).append(clean(recipient, MAX_ADDRESS))
    return found


def _row(mail: Inbound, rule: Rule, recipients: list[str]) -> dict[str, Any]:
    return {
        "project": rule.project_id,
        "mail": mail.mail_id,
        "route": rule.route_id,
        "recipients": recipients,
        "mail_from": clean(mail.mail_from, MAX_ADDRESS),
        "size": len(mail.octets),
        "forward_to": rule.forward_to if rule.action is RouteAction.FORWARD else None,
    }


def _row_back(mail: Inbound, back: GoesBack) -> dict[str, Any]:
    """No route's: that of the mail it is about may be gone."""
    return {
        "project": back.project_id,
        "mail": mail.mail_id,
        "route": NO_ROUTE,
        "recipients": [clean(back.address, MAX_ADDRESS)],
        "mail_from": "",
        "size": len(mail.octets),
        "forward_to": [back.sender],
        "returns": back.send_id,
    }
