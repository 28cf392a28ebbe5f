r"""Placeholders in a text that many share: `{{name}}` becomes each recipient's own value.

In HTML a value is escaped, so that a name is a name and never markup; `{{{name}}}` puts it in as it is. `\{{` is two
braces that mean nothing. There is no logic and no nesting, and a value is never read for placeholders itself.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

MAX_PLACEHOLDERS = 1_000  # of a text: filling one in is work for each recipient
MAX_NAME = 64  # characters
CACHED_TEMPLATES = 256  # texts of at most CACHED_LENGTH characters; a batch's texts are filled in again and again
CACHED_LENGTH = 65_536

MAX_VARIABLES = 100  # of a message
MAX_VARIABLE = 65_536  # characters of a value

_NAME = rf"[A-Za-z_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}"
_PLACEHOLDER = re.compile(
    rf"(?P<quoted>\\\{{\{{)|\{{\{{\{{[ \t]?(?P<raw>{_NAME})[ \t]?\}}\}}\}}|\{{\{{[ \t]?(?P<name>{_NAME})[ \t]?\}}\}}|\{{\{{"
)
NAME = re.compile(_NAME)
VARIABLE_NAME = f"^{_NAME}$"


class PlaceholderError(ValueError):
    """A text cannot be filled in; the message says why, and `field` which one it is, where somebody knows."""

    field: str | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a value goes."""

    name: str
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A text that has been read: what stands between its slots, and these in turn."""

    texts: tuple[str, ...]
    slots: tuple[Slot, ...]

    def fill(self, values: Mapping[str, str], most: int, *, escape: bool = False) -> str:
        """The text with its values, of at most so many characters; raises PlaceholderError."""
        if not self.slots:
            return self.texts[0]
        shown = [_shown(slot, values, escape) for slot in self.slots]
        if sum(map(len, self.texts)) + sum(map(len, shown)) > most:  # before it is built
            raise PlaceholderError(f"With its values it is too long. It should have {most} characters or less.")
        pieces = [piece for pair in zip(self.texts, shown, strict=False) for piece in pair]
        return "".join([*pieces, self.texts[-1]])


def read_template(text: str) -> Template:
    """The text's template; raises PlaceholderError for `{{` that begins none."""
    return _read_cached(text) if len(text) <= CACHED_LENGTH else _read(text)


@overload
def fill(text: None, values: Mapping[str, str], most: int, *, escape: bool = False) -> None: ...
@overload
def fill(text: str, values: Mapping[str, str], most: int, *, escape: bool = False) -> str: ...
def fill(text: str | None, values: Mapping[str, str], most: int, *, escape: bool = False) -> str | None:
    """A text with its values, of at most so many characters; None stays None. Raises PlaceholderError."""
    if text is None or "{{" not in text:
        return text
    return read_template(text).fill(values, most, escape=escape)


def has_placeholders(text: str | None) -> bool:
    """Whether there is anything to fill in, or to be refused."""
    return text is not None and "{{" in text


def _shown(slot: Slot, values: Mapping[str, str], escape: bool) -> str:
    value = values.get(slot.name)
    if value is None:
        raise PlaceholderError(f"The variable {slot.name} is missing.")
    return html.escape(value) if escape and not slot.is_raw else value


def _read(text: str) -> Template:
    texts, at = [""], 0
    slots: list[Slot] = []
    for found in _PLACEHOLDER.finditer(text):
        texts[-1] += text[at : found.start()]
        at = found.end()
        if found["quoted"]:
            texts[-1] += "{{"
            continue
        name = found["raw"] or found["name"]
        if name is None:
            shown = text[found.start() : found.start() + 40]
            raise PlaceholderError(f"{shown!r} is not a placeholder: write {{{{name}}}}, or \\{{{{ for two braces.")
        if len(slots) == MAX_PLACEHOLDERS:
            raise PlaceholderError(f"There are more than {MAX_PLACEHOLDERS} placeholders.")
        slots.append(Slot(name, found["raw"] is not None))
        texts.append("")
    texts[-1] += text[at:]
    return Template(tuple(texts), tuple(slots))


_read_cached = lru_cache(CACHED_TEMPLATES)(_read)
