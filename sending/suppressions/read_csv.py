"""Reading a CSV of addresses from a stream, line by line: what can be used, and what is wrong with the rest.

Nothing here grows with the file: lines have a greatest length, and so has what a quoted field may hold over several. With
a heading the columns may stand in any order and others are ignored; without one they stand as in an export. Commas,
semicolons and tabs are taken, whichever the first line has most of, since spreadsheets write what their country is used to.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from relay_project.mail.address import InvalidAddress, parse_mailbox, suppression_key
from relay_project.mail.text import clean
from sending.models import SuppressionReason
from sending.suppress import MAX_DESCRIPTION, MAX_EMAIL, InvalidList, list_key

COLUMNS = ("email", "reason", "description", "list", "expires_at")  # of an import; an export adds created_at
HEADINGS = {"e-mail": "email", "email address": "email", "email_address": "email", "address": "email", "mail": "email"}
MAX_LINE = 16_384  # octets
MAX_LINES = 20  # of one row: descriptions may have several
READ_AT_ONCE = 65_536  # octets
NOT_UTF8 = "The file must be UTF-8 text."
SHOWN = 100  # characters of a wrong value
# A spreadsheet runs what begins so: an export puts an apostrophe before it, an import takes it away again.
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_REASONS = frozenset(SuppressionReason.values)

Read = Callable[[int], bytes]  # at most so many octets; none at the end


class UnreadableFile(ValueError):
    """Not a text that could be read by lines; the text says why."""


class _WrongValue(ValueError):
    """One value of a line cannot be used."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line that can be used. `email` and `list_name` are keys."""

    line: int
    email: str
    reason: str
    description: str | None
    list_name: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot: its number from 1, and why."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a line says nothing."""

    reason: str = SuppressionReason.MANUAL.value
    list_name: str | None = None
    expires_at: datetime | None = None


def guard(text: str) -> str:
    """A value for a CSV that a spreadsheet may open."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """The value again."""
    return text[1:] if _GUARDED.match(text) else text


class _Lines:
    """The lines of a stream as text. `number`: of the last one given; `skipped`: those that were too long."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.number = 0
        self.skipped: list[int] = []

    def __iter__(self) -> Iterator[str]:
        """Give each line with its end; what is not UTF-8 in it becomes surrogates, which no address may have."""
        rest, is_long = b"", False
        while chunk := self._read(READ_AT_ONCE):
            if not self.number and not rest:
                chunk = _without_mark(chunk)
            *whole, rest = _split(rest + chunk)
            for line in whole:
                self.number += 1
                if is_long or len(line) > MAX_LINE:
                    self.skipped.append(self.number)
                    is_long = False
                else:
                    yield line.decode("utf-8", "surrogateescape")
            if len(rest) > MAX_LINE:
                rest, is_long = b"", True
        if rest or is_long:
            self.number += 1
            if is_long:
                self.skipped.append(self.number)
            else:
                yield rest.decode("utf-8", "surrogateescape")


def _split(text: bytes) -> list[bytes]:
    """Lines with their ends, and last what may not be whole yet."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[-1].endswith(b"\n"):
        lines.append(b"")
    return lines


def _without_mark(chunk: bytes) -> bytes:
    """The text without the mark that editors put before it; raises UnreadableFile for what is not UTF-8."""
    if chunk.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in chunk[:200]:
        raise UnreadableFile(NOT_UTF8)
    return chunk.removeprefix(b"\xef\xbb\xbf")


def read_rows(read: Read, defaults: Defaults, now: datetime) -> Iterator[Row | BadLine]:
    """Every line of the stream but empty ones and the heading; raises UnreadableFile."""
    lines = _Lines(read)
    source = iter(lines)
    first = next((line for line in source if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = _Reader(first, source, delimiter)
    columns: tuple[str, ...] | None = None
    while True:
        try:
            cells = reader.next()
        except csv.Error:
            reader = _Reader("", source, delimiter)
            yield BadLine(lines.number, "A quote is not closed in the lines before this one, so they were not read.")
            continue
        yield from _told(lines)
        if cells is None:
            return
        if columns is None:
            heading = _heading(cells)
            columns = heading or COLUMNS
            if heading:
                continue
        if any(cells):
            yield _row(lines.number, columns, cells, defaults, now)


class _Reader:
    """csv.reader over a first line and those after it; one that lost its quotes does not swallow the file."""

    def __init__(self, first: str, source: Iterator[str], delimiter: str) -> None:
        self._source = source
        self._given = 0
        self._csv = csv.reader(self._feed(first), delimiter=delimiter)

    def next(self) -> list[str] | None:
        """The next line's cells, None at the end; raises csv.Error."""
        self._given = 0
        return next(self._csv, None)

    def _feed(self, first: str) -> Iterator[str]:
        if first:
            yield first
        for line in self._source:
            self._given += 1
            if self._given > MAX_LINES:
                raise csv.Error("a quote is not closed")
            yield line


def _told(lines: _Lines) -> Iterator[BadLine]:
    """What was skipped before the line just read."""
    skipped, lines.skipped = lines.skipped, []
    for number in skipped:
        yield BadLine(number, f"This line is longer than {MAX_LINE} octets.")


def _heading(cells: list[str]) -> tuple[str, ...]:
    """What each column holds, when the line says so; empty when it is no heading."""
    names = tuple(HEADINGS.get(name, name) for cell in cells for name in [cell.strip().casefold()])
    return names if "email" in names else ()


def _row(number: int, columns: tuple[str, ...], cells: list[str], defaults: Defaults, now: datetime) -> Row | BadLine:
    values = dict(zip(columns, cells, strict=False))
    try:
        return Row(
            number,
            _email(unguard(values.get("email", ""))),
            _reason(values.get("reason", ""), defaults),
            clean(unguard(values.get("description", "")), MAX_DESCRIPTION) or None,
            _list(unguard(values.get("list", ""))) or defaults.list_name,
            _end(values.get("expires_at", ""), now) or defaults.expires_at,
        )
    except _WrongValue as wrong:
        return BadLine(number, str(wrong))


def _email(text: str) -> str:
    text = text.strip()
    try:
        key = suppression_key(parse_mailbox(text).address)
    except InvalidAddress:
        key = ""
    if not key or len(key) > MAX_EMAIL:
        raise _WrongValue(f"{_shown(text)} is not a valid email address.")
    return key


@lru_cache(64)
def _reason_of(text: str) -> str | None:
    reason = text.strip().casefold()
    return reason if reason in _REASONS else None


def _reason(text: str, defaults: Defaults) -> str:
    if not text:
        return defaults.reason
    reason = _reason_of(text)
    if reason is None:
        raise _WrongValue(f"{_shown(text)} is not a reason: {', '.join(SuppressionReason.values)}.")
    return reason


def _list(text: str) -> str | None:
    if not text:
        return None
    try:
        return _list_key(text)
    except InvalidList as wrong:
        raise _WrongValue(f"{_shown(text)} is not the name of a list. {wrong}") from None


_list_key = lru_cache(256)(list_key)


def _end(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    end = read_time(text)
    if end is None:
        raise _WrongValue(f"{_shown(text)} is not a time: give it as 2027-01-31 or 2027-01-31T12:00:00Z.")
    if end <= now:
        raise _WrongValue(f"{_shown(text)} is over already.")
    return end


@lru_cache(256)
def read_time(text: str) -> datetime | None:
    """A day or a time (UTC unless it says otherwise) or Unix seconds; None for anything else."""
    text = text.strip()
    try:
        if text.isascii() and text.isdigit():
            return datetime.fromtimestamp(int(text), UTC) if len(text) <= 11 else None
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _shown(text: str) -> str:
    """A wrong value, fit to be told."""
    return f"“{clean(text, SHOWN)}”"
