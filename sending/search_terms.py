"""What a search looks for, as conditions over the sends themselves, and as what their index is asked for.

A text is found anywhere within an address or a subject. One of less than three characters, or without three letters or
digits that stand so together that the index knows them, is found at the beginning only: anywhere, it is in nearly
everything, and no index could say where.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LEAST_INSIDE = 3  # characters of a text that is looked for anywhere
# What pg_trgm takes out of a pattern '%text%': three of a word's characters, or two at its end, or one at its beginning.
_INDEXED = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")
_WORD = re.compile(r"[^\W_]")
_WILDCARDS = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True)
class SendFilter:
    """What to look for; None: no matter. Dates are aware, `date_to` exclusive.

    `is_case_sensitive`: of addresses, as the API's contract has it; a subject never is. Whole addresses never are.
    """

    status: str | None = None
    from_text: str | None = None
    to_text: str | None = None
    subject_text: str | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    is_case_sensitive: bool = False
    from_address: str | None = None
    to_address: str | None = None
    tag: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing but the project decides."""
        return self == SendFilter()

    @property
    def is_of_dates_only(self) -> bool:
        """Nothing but a range of ids decides."""
        return not (self.has_text or self.status or self.tag)

    @property
    def has_text(self) -> bool:
        """Whether the index has something to say."""
        return any((self.from_text, self.to_text, self.subject_text, self.from_address, self.to_address))


def is_inside(text: str) -> bool:
    """Whether a text is looked for anywhere, and not at the beginning only."""
    return len(text) >= LEAST_INSIDE and _INDEXED.search(text) is not None


def pattern(text: str) -> str:
    """For LIKE."""
    escaped = _WILDCARDS.sub(r"\\\1", text)
    return f"%{escaped}%" if is_inside(text) else f"{escaped}%"


# --- Over the rows themselves ----------------------------------------------------------------------------------------


def conditions(wanted: SendFilter, low: int, high: int) -> tuple[str, dict[str, Any]]:
    """(SQL that follows WHERE … over `s`, its values) for sends with ids from `low` to below `high`."""
    parts: list[str] = []
    values: dict[str, Any] = {"low": low, "high": high}
    for name, text in (("from_address", wanted.from_text), ("subject", wanted.subject_text)):
        if text:
            is_exact = wanted.is_case_sensitive and name == "from_address"
            parts.append(_like(f"s.{name}", name, is_exact))
            values[name] = pattern(text)
    if wanted.from_address:
        parts.append("lower(s.from_address) = lower(%(sender)s)")
        values["sender"] = wanted.from_address
    if wanted.tag:
        parts.append("s.tags @> ARRAY[%(tag)s]::varchar[]")
        values["tag"] = wanted.tag
    if wanted.status or wanted.to_text or wanted.to_address:
        sql, more = _recipient(wanted)
        parts.append(sql)
        values |= more
    return "".join(f" AND {part}" for part in parts), values


# One recipient that fits all that is asked of recipients: a status and an address belong together. OFFSET 0 keeps it a
# look-up for each send: as a join the planner might read every recipient of a month. The literal bounds prune days when
# planning, those by the send's id when running.
_RECIPIENT = """EXISTS (
  SELECT FROM sending_recipient r
   WHERE r.send_id = s.id AND r.id > s.id AND r.id < s.id + 14745600000
     AND r.id >= %(low)s AND r.id < %(high)s + 14745600000{conditions} OFFSET 0)"""


def _recipient(wanted: SendFilter) -> tuple[str, dict[str, Any]]:
    sql, values = "", {}
    if wanted.status:
        sql += " AND r.status = %(status)s"
        values["status"] = wanted.status
    if wanted.to_text:
        sql += " AND " + _like("r.address", "address", wanted.is_case_sensitive)
        values["address"] = pattern(wanted.to_text)
    if wanted.to_address:
        sql += " AND lower(r.address) = lower(%(recipient)s)"
        values["recipient"] = wanted.to_address
    return _RECIPIENT.format(conditions=sql), values


def _like(column: str, name: str, is_case_sensitive: bool) -> str:
    return f"{column} LIKE %({name})s" if is_case_sensitive else f"lower({column}) LIKE lower(%({name})s)"


# --- Over the index --------------------------------------------------------------------------------------------------


def index_values(project_id: int, wanted: SendFilter) -> dict[str, Any]:
    """What search_sends() is asked; a superset of what fits, as the index knows neither case nor status.

    `wanted` are the kinds and values of keys that all must be there: whole addresses and the tag, or the project.
    """
    whole = [("f", wanted.from_address), ("t", wanted.to_address), ("g", wanted.tag)]
    keys = [(kind, text) for kind, text in whole if text] or [("p", "")]
    texts = {"from": wanted.from_text or "", "to": wanted.to_text or "", "subject": wanted.subject_text or ""}
    # Without a letter or a digit no trigram could be asked for, and the index would read all that it has: the first
    # character is a key in its place.
    keys += [(f"{name[0]}-", text[0]) for name, text in texts.items() if text and not _WORD.search(text)]
    texts = {name: text if _WORD.search(text) else "" for name, text in texts.items()}
    return {
        "project": project_id,
        "kinds": [kind for kind, _ in keys],
        "values": [text for _, text in keys],
        "sender": pattern(texts["from"]) if texts["from"] else "",
        "recipient": _line_pattern(texts["to"]) if texts["to"] else "",
        "subject": pattern(texts["subject"]) if texts["subject"] else "",
    }


def _line_pattern(text: str) -> str:
    """The same where each address stands on a line of its own."""
    return pattern(text) if is_inside(text) else f"%\n{pattern(text)}"
