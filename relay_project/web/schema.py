"""Words for describing what goes over the wire, each a piece of JSON Schema (draft 2020-12, as OpenAPI 3.1 has it).

They are as strict as the readers of relay_project.web.fields and relay_project.web.pagination: what these words promise
is taken, what they forbid is refused. Answers use the same words without bounds.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from relay_project.web.fields import MAX_BIGINT
from relay_project.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET

Schema = dict[str, Any]

MAX_ID = 2**53 - 1  # ids are whole numbers that every language's JSON reads exactly
NO_NUL = r"^[^\u0000]*$"
FILLED = r"^[^\u0000]*[^\u0000\s][^\u0000]*$"  # not blank either

# Every named object, in the order of its making: the document's components/schemas.
COMPONENTS: dict[str, Schema] = {}


def string(says: str = "", **more: Any) -> Schema:
    """Text in an answer."""
    return _said({"type": "string", **more}, says)


def text(says: str = "", *, maximum: int = 255, blank: bool = True, **more: Any) -> Schema:
    """Text in a request, as Fields.text() reads it; `blank=False` as with `required=True` there.

    A `format` bounds a text better than a length: an address, a domain, a key.
    """
    if "format" in more:
        return _said({"type": "string", **more}, says)
    return _said({"type": "string", "maxLength": maximum, "pattern": NO_NUL if blank else FILLED, **more}, says)


def integer(says: str = "", least: int = -MAX_BIGINT, most: int = MAX_BIGINT, **more: Any) -> Schema:
    """A whole number; without bounds what a bigint holds."""
    return _said({"type": "integer", "minimum": least, "maximum": most, **more}, says)


def number(says: str = "", **more: Any) -> Schema:
    """A number with a fraction."""
    return _said({"type": "number", **more}, says)


def identifier(says: str = "", **more: Any) -> Schema:
    """An id."""
    return integer(says, 1, MAX_ID, **more)


def moment(says: str = "Unix seconds, UTC.", **more: Any) -> Schema:
    """A time in an answer."""
    return _said({"type": "integer", **more}, says)


def boolean(says: str = "") -> Schema:
    """True or false."""
    return _said({"type": "boolean"}, says)


def choice(values: Iterable[str], says: str = "", **more: Any) -> Schema:
    """One of some words."""
    return _said({"type": "string", "enum": [str(value) for value in values], **more}, says)


def listed(item: Schema, says: str = "", **more: Any) -> Schema:
    """A list; `minItems` and `maxItems` bound it."""
    return _said({"type": "array", "items": item, **more}, says)


def mapped(value: Schema, says: str = "", **more: Any) -> Schema:
    """An object whose names are data."""
    return _said({"type": "object", "additionalProperties": value, **more}, says)


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str):
        null = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return {**schema, "type": [schema["type"], "null"], **null}
    if "type" in schema:
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]}


def any_of(*schemas: Schema, says: str = "", **more: Any) -> Schema:
    """One of several shapes."""
    return _said({"anyOf": list(schemas), **more}, says)


def answer(name: str, fields: Mapping[str, Schema], says: str = "", sometimes: Collection[str] = ()) -> Schema:
    """A named object of answers. All of its fields are always there, but for `sometimes`."""
    required = [field for field in fields if field not in sometimes]
    return _named(name, {"type": "object", "properties": dict(fields), "required": required}, says)


def body(
    name: str,
    fields: Mapping[str, Schema],
    required: Collection[str] = (),
    says: str = "",
    **more: Any,
) -> Schema:
    """A named object of requests. What is not required may be null as well, which Fields takes for absent."""
    properties = {field: schema if field in required else nullable(schema) for field, schema in fields.items()}
    shape: Schema = {"type": "object", "properties": properties, **more}
    if required:
        shape["required"] = list(required)
    return _named(name, shape, says)


def page(*names: str) -> dict[str, Schema]:
    """The query parameters that read_page() reads; all of them, or those that are named."""
    parameters = {
        "limit": integer("How many at most.", 1, MAX_LIMIT, default=DEFAULT_LIMIT),
        "before_id": integer("Only what has a smaller id: the last one you have."),
        "offset": integer("How many to leave out.", 0, MAX_OFFSET, default=0),
    }
    return {name: schema for name, schema in parameters.items() if not names or name in names}


def _named(name: str, schema: Schema, says: str) -> Schema:
    """A reference to the component; one name is one shape."""
    schema = _said(schema, says)
    if COMPONENTS.setdefault(name, schema) != schema:
        raise ValueError(f"There are two shapes of the name {name}.")
    return {"$ref": f"#/components/schemas/{name}"}


def _said(schema: Schema, says: str) -> Schema:
    return {**schema, "description": says} if says else schema


EMPTY_LIST = listed({}, "Always empty.", maxItems=0)
EMPTY_OBJECT: Schema = {"type": "object", "description": "Always empty.", "maxProperties": 0}
VIOLATION = answer("Violation", {"property": string("The field, such as `scopes[0]`."), "message": string()})
ERROR = answer(
    "Error",
    {
        "message": string("A sentence for whoever sent the request.", examples=["Entity not found"]),
        "status": {"type": "integer", "description": "The response's status once more."},
        "violations": listed(VIOLATION, "Every field that is to blame."),
        "errors": mapped(listed({"type": "string"}), "The same by field."),
        "data": {"type": "object", "description": "What else helps, such as `login_url` of a 401."},
    },
    "The one shape of an error.",
    sometimes=("violations", "errors", "data"),
)
