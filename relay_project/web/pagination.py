"""Reading `limit`, `before_id`, `offset` and other whole numbers of a query, and ids of a path."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from relay_project.web.errors import ApiError, violation
from relay_project.web.fields import NOT_A_CHOICE, parse_integer

DEFAULT_LIMIT = 50  # as the contract
MAX_LIMIT = 1000  # rows; the contract has no maximum, which lets one request read everything
MAX_OFFSET = 1_000_000  # rows that PostgreSQL would read and throw away


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list."""

    limit: int
    offset: int = 0
    before_id: int | None = None


def read_page(query: Mapping[str, str]) -> Page:
    """The page that a query asks for; raises ApiError 400 for what is no number and 422 for one out of bounds."""
    limit = read_number(query, "limit")
    offset = read_number(query, "offset")
    return Page(
        DEFAULT_LIMIT if limit is None else within("limit", limit, 1, MAX_LIMIT),
        0 if offset is None else within("offset", offset, 0, MAX_OFFSET),
        read_number(query, "before_id"),
    )


def read_number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number, None when absent or empty; raises ApiError 400."""
    raw = query.get(name, "").strip()
    if not raw:
        return None
    value = parse_integer(raw)
    if value is None:
        raise ApiError(400, f'Invalid query parameter "{name}".')
    return value


def read_text(query: Mapping[str, str], name: str, maximum: int = 255) -> str | None:
    """Text without NUL of a query, None when absent or empty; raises ApiError 400."""
    value = query.get(name) or None
    if value is not None and ("\0" in value or len(value) > maximum):
        raise ApiError(400, f'Invalid query parameter "{name}".')
    return value


def read_choice(query: Mapping[str, str], name: str, choices: Collection[str]) -> str | None:
    """One of some words, None when absent or empty; raises ApiError 400, and Violations for another word."""
    value = read_text(query, name)
    if value is not None and value not in choices:
        raise violation(name, NOT_A_CHOICE)
    return value


def read_path_id(raw: str) -> int:
    """An id out of a path; raises ApiError 400 `Invalid ID`, and 404 for a number that no id can be."""
    value = parse_integer(raw)
    if value is None and not (raw.isascii() and raw.isdigit()):
        raise ApiError(400, "Invalid ID")
    if value is None or value <= 0:
        raise ApiError(404, "Entity not found")
    return value


def within(name: str, value: int, least: int, most: int) -> int:
    """The value; raises Violations for one out of bounds."""
    if not least <= value <= most:
        raise violation(name, f"This value should be between {least} and {most}.")
    return value
