"""`/api/docs`: the OpenAPI document for people to read, made on the server and readable without a script."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from relay_project.web.describe import JSON
from relay_project.web.openapi import document, operations
from relay_project.web.schema import FILLED, MAX_ID, Schema

MANY = 12  # words of a choice that a line holds


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of a type; `anchor` is that of the object it names."""

    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One field or parameter."""

    name: str
    kind: tuple[Word, ...]
    rule: str
    says: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A named object."""

    name: str
    says: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One operation."""

    name: str
    summary: str
    text: str
    method: str
    path: str
    parameters: tuple[Row, ...]
    body: tuple[Row, ...]
    body_kind: tuple[Word, ...]
    answer: tuple[Word, ...]
    refusals: tuple[tuple[str, str], ...]
    curl: str
    sample: str


@dataclass(frozen=True, slots=True)
class Section:
    """A tag with its operations."""

    name: str
    anchor: str
    says: str
    calls: tuple[Call, ...]


def reference(request: HttpRequest) -> HttpResponse:
    """The page; public as the document is."""
    return render(
        request, "reference/page.html", {"document": document(), "sections": _sections(), "shapes": _shapes()}
    )


@cache
def _sections() -> tuple[Section, ...]:
    whole = document()
    calls: dict[str, list[Call]] = {tag["name"]: [] for tag in whole["tags"]}
    for path, method, operation in operations(whole):
        calls[operation["tags"][0]].append(_call(method, path, operation))
    return tuple(
        Section(tag["name"], anchor_of(tag["name"]), tag["description"], tuple(calls[tag["name"]]))
        for tag in whole["tags"]
    )


@cache
def _shapes() -> tuple[Shape, ...]:
    schemas = document()["components"]["schemas"]
    return tuple(Shape(name, schema.get("description", ""), _rows(schema)) for name, schema in schemas.items())


def anchor_of(name: str) -> str:
    """`api-keys` for `API keys`."""
    return name.lower().replace(" ", "-")


# --- A call --------------------------------------------------------------------------------------------------------


def _call(method: str, path: str, operation: Mapping[str, Any]) -> Call:
    content = operation.get("requestBody", {}).get("content", {})
    body: Mapping[str, Any] = next(iter(content.values()), {})
    success = operation["responses"]["200"]["content"]
    given = next(iter(success.values()))
    return Call(
        name=operation["operationId"],
        summary=operation["summary"],
        text=operation["description"],
        method=method,
        path=path,
        parameters=tuple(_parameter(parameter) for parameter in operation["parameters"]),
        body=_body_rows(_resolve(body["schema"])) if body else (),
        body_kind=tuple(words(body["schema"])) if body else (),
        answer=tuple(words(given["schema"])) if JSON in success else (Word(next(iter(success))),),
        refusals=tuple(_refusals(operation)),
        curl=_curl(method, path, operation, body),
        sample=_pretty(given["example"]) if "example" in given else "",
    )


def _parameter(parameter: Mapping[str, Any]) -> Row:
    schema = parameter["schema"]
    says = parameter.get("description") or schema.get("description", "")
    place = {"path": "In the path. ", "header": "A header. "}.get(parameter["in"], "")
    return Row(parameter["name"], tuple(words(schema)), rule(schema), place + says, parameter.get("required", False))


def _refusals(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(status, message) of what only this call says; what every call may say stands above all of them."""
    for status, response in operation["responses"].items():
        for line in response.get("description", "").split("\n"):
            if line.startswith("- `"):
                yield status, line.removeprefix("- `").removesuffix("`")


def _curl(method: str, path: str, operation: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    lines = [f"curl {settings.WEB_URL}{path}"]
    if method != "GET" and not (method == "POST" and "example" in body):
        lines[0] += f" -X {method}"
    if any("apiKey" in way for way in operation["security"]):
        lines.append('  -H "Authorization: Bearer $KEY"')
    if isinstance(body.get("example"), dict):
        lines.append("  -H 'Content-Type: application/json'")
        lines.append(f"  -d '{_pretty(body['example'])}'".replace("'s ", "’s "))
    return " \\\n".join(lines)


def _pretty(example: object) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


# --- Schemas in words ----------------------------------------------------------------------------------------------


def _rows(schema: Schema) -> tuple[Row, ...]:
    needed = schema.get("required", ())
    properties = schema.get("properties", {})
    return tuple(
        Row(name, tuple(words(field)), rule(field), field.get("description", ""), name in needed)
        for name, field in properties.items()
    )


def _body_rows(schema: Schema) -> tuple[Row, ...]:
    """Whatever is not needed may be null; that it says once, above all of them."""
    rows = _rows(schema)
    return tuple(replace(row, kind=row.kind[:-1]) if row.kind[-1].text == " or null" else row for row in rows)


def words(schema: Schema) -> Iterator[Word]:
    """What kind of value a schema describes: `list of `, `Domain`, ` or null`."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        yield Word(name, f"object-{name}")
    elif options := schema.get("anyOf"):
        for index, option in enumerate(options):
            is_null = option == {"type": "null"}
            yield from [Word(" or ")] if index and not is_null else []
            yield from [Word(" or null")] if is_null else words(option)
    else:
        yield from _simple(schema)


def _simple(schema: Schema) -> Iterator[Word]:
    kinds = schema.get("type", "anything")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    match kinds[0]:
        case "array":
            yield Word("list of ")
            yield from words(schema["items"]) if schema["items"] else [Word("nothing")]
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            yield Word("map of ")
            yield from words(schema["additionalProperties"])
        case "string" if "format" in schema:
            yield Word(schema["format"].replace("-", " "))
        case kind:
            yield Word({"string": "text"}.get(kind, kind))
    if "null" in kinds[1:]:
        yield Word(" or null")


def rule(schema: Schema) -> str:
    """The bounds of a value, in words."""
    rules = []
    if choices := schema.get("enum") or schema.get("items", {}).get("enum"):
        shown = [f"`{value}`" for value in choices if value is not None]
        rules.append(", ".join(shown[:MANY]) + (", …" if len(shown) > MANY else ""))
    if schema.get("pattern") == FILLED:
        rules.append("not blank")
    rules += [text.format(f"{schema[name]:,}") for name, text in _BOUNDS.items() if name in schema]
    if _is_telling(schema.get("minimum")) or _is_telling(schema.get("maximum")):
        rules.append(_range(schema))
    if "default" in schema:
        rules.append(f"default `{schema['default']}`")
    return "; ".join(rules)


_BOUNDS = {
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
}


def _is_telling(bound: int | None) -> bool:
    """Not merely what an id or a bigint is."""
    return bound is not None and abs(bound) < MAX_ID and bound != 1


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None or abs(least) >= MAX_ID:
        return f"at most {most:,}"
    return f"at least {least:,}" if most is None or most >= MAX_ID else f"{least:,} to {most:,}"


def _resolve(schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Schema = document()["components"]["schemas"][reference.rpartition("/")[2]]
    return found
