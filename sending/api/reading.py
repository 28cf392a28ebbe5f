"""What the readers of a message's fields share: noting what is wrong, addresses, texts that stand in a header."""

from collections.abc import Mapping
from typing import Any, Protocol

from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.headers import NamedAddress
from relay_project.web.fields import BLANK, text_violation

MAX_DISPLAY_NAME = 998  # characters, what the columns hold

MULTIPLE = "Multiple email addresses are not allowed."
NOT_AN_ADDRESS = "This value is not a valid email address."
NAME_TYPE = "The name must be a string."
LINE_BREAK = "This value should not contain line breaks."
ADDRESS_TYPE = "This value should be of type array|string."


class Noting(Protocol):
    """A body being read."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The fields."""

    def note(self, name: str, message: str) -> None:
        """Something is wrong with a field."""


def read_address(body: Noting, field: str, value: Any) -> NamedAddress | None:
    """A bare address or {email, name}; None when something is wrong, which has been noted."""
    name: Any = None
    if isinstance(value, dict):
        name, value = value.get("name"), value.get("email")
    elif not isinstance(value, str):
        body.note(field, MULTIPLE if isinstance(value, list) else ADDRESS_TYPE)
        return None
    if wrong := _address_violation(value) or _name_violation(name):
        body.note(field, wrong)
        return None
    return NamedAddress(value, name or None)


def _address_violation(value: object) -> str | None:
    if value is None or value == "":
        return BLANK
    if not isinstance(value, str):
        return NOT_AN_ADDRESS
    try:
        parse_mailbox(value)
    except InvalidAddress:
        return NOT_AN_ADDRESS
    return None


def _name_violation(name: object) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        return NAME_TYPE
    return line_violation(name, MAX_DISPLAY_NAME)


def line_violation(value: object, maximum: int) -> str | None:
    """What keeps a value from standing in a header."""
    wrong = text_violation(value, required=False, maximum=maximum)
    if wrong is None and isinstance(value, str) and ("\n" in value or "\r" in value):
        return LINE_BREAK
    return wrong
