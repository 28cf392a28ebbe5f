"""Readers of single fields: they check the type, name the field that is wrong and gather all violations of a body.

A value from outside is text without NUL, a whole number that a bigint holds, and so on; what goes wrong is a violation
of the contract's texts, never an exception of the database.
"""

from collections.abc import Collection, Mapping
from typing import Any

from relay_project.web.errors import Violation, Violations
from relay_project.web.json import FormData

MAX_BIGINT = 2**63 - 1  # PostgreSQL's bigint
BLANK = "This value should not be blank."
NUL = "This value should not contain NUL characters."
NOT_A_CHOICE = "The value you selected is not a valid choice."
_TRUE, _FALSE = frozenset({"1", "true", "on"}), frozenset({"0", "false", "off", ""})


class Fields:
    """One body (or query) being read; ask for the fields, then `check()`.

    A reader gives its default for what is absent, null or wrong; what is wrong has been noted.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.violations: list[Violation] = []
        self._lenient = isinstance(data, FormData)

    def __contains__(self, name: str) -> bool:
        return self.data.get(name) is not None

    def note(self, name: str, message: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(name, message))

    def check(self) -> None:
        """Raises Violations when anything was wrong."""
        if self.violations:
            raise Violations(self.violations)

    def text(self, name: str, *, required: bool = False, maximum: int = 255) -> str | None:
        """A string of at most `maximum` characters; a required one is not blank."""
        value = self.data.get(name)
        if value is None:
            if required:
                self.note(name, BLANK)
            return None
        return self._text(name, value, required, maximum)

    def integer(self, name: str, *, required: bool = False) -> int | None:
        """A whole number that fits a bigint."""
        value = self.data.get(name)
        if self._lenient and isinstance(value, str):
            value = parse_integer(value) if value else None
            if value is None and self.data.get(name):
                value = self.data[name]
        if value is None:
            if required:
                self.note(name, BLANK)
            return None
        return self._integer(name, value)

    def integers(self, name: str, *, most: int = 1000) -> list[int] | None:
        """A list of whole numbers, of which each fits a bigint. Wrong items are named `name[i]`."""
        value = self._list(name, most)
        if value is None:
            return None
        items = [self._integer(f"{name}[{index}]", item) for index, item in enumerate(value)]
        return [item for item in items if item is not None] if None not in items else None

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        value = self.data.get(name)
        if self._lenient and isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        if value is not None and not isinstance(value, bool):
            self.note(name, _type("bool"))
            return None
        return value

    def texts(self, name: str, *, required: bool = False, maximum: int = 255, most: int = 1000) -> list[str] | None:
        """A list of strings; a required one is not empty. Its items are named `name[i]`."""
        value = self.data.get(name)
        if value is None or (value == [] and required):
            if required:
                self.note(name, BLANK)
            return None
        value = self._list(name, most)
        if value is None:
            return None
        items = [self._text(f"{name}[{index}]", item, True, maximum) for index, item in enumerate(value)]
        return [item for item in items if item is not None] if None not in items else None

    def choice(self, name: str, choices: Collection[str], *, required: bool = False) -> str | None:
        """One of some words."""
        value = self.text(name, required=required)
        if value is not None and value not in choices:
            self.note(name, NOT_A_CHOICE)
            return None
        return value

    def _list(self, name: str, most: int) -> list[Any] | None:
        value = self.data.get(name)
        if isinstance(value, list) and len(value) <= most:
            return value
        if isinstance(value, list):
            self.note(name, f"This collection should contain {most} elements or less.")
        elif value is not None:
            self.note(name, _type("array"))
        return None

    def _integer(self, name: str, value: object) -> int | None:
        value = whole(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.note(name, _type("int"))
        elif abs(value) > MAX_BIGINT:
            self.note(name, "This value is too large.")
        else:
            return value
        return None

    def _text(self, name: str, value: object, required: bool, maximum: int) -> str | None:
        wrong = text_violation(value, required, maximum)
        if wrong:
            self.note(name, wrong)
            return None
        return str(value)


def text_violation(value: object, required: bool, maximum: int) -> str | None:
    """What is wrong with a string, or None."""
    if not isinstance(value, str):
        return _type("string")
    if required and not value.strip():
        return BLANK
    if "\0" in value:
        return NUL
    if len(value) > maximum:
        return f"This value is too long. It should have {maximum} characters or less."
    return None


def whole(value: object) -> object:
    """1 for 1.0, anything else as it is: JSON knows one kind of number, and some languages write 1 so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_integer(text: str) -> int | None:
    """A decimal number that a bigint holds, else None; int() alone would take underscores and other scripts' digits."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return None
    value = int(text)
    return value if abs(value) <= MAX_BIGINT else None


def _type(word: str) -> str:
    return f"This value should be of type {word}."
