"""The OpenAPI document, made by drf-spectacular from what the views say of themselves by `@describe`.

drf-spectacular walks the URL map; our views have no serializers it could read, so each operation is put together here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import Any, cast

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from relay_project.web.describe import JSON, Description, description_of
from relay_project.web.openapi_texts import HEADERS, INTRODUCTION, REFUSALS, SECTIONS
from relay_project.web.schema import COMPONENTS, ERROR, Schema, any_of, identifier, string

PATH_KINDS: Mapping[str, Schema] = {  # by the end of the name
    "domain": any_of(identifier(), string(format="domain"), says="Its id or its name."),
    "id": identifier(),
    "uuid": string(format="uuid"),
    "email": string(format="email"),
}


class EndpointSchema(AutoSchema):
    """DRF's DEFAULT_SCHEMA_CLASS: an operation from a view's Description; a view without one is left out."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        """The operation object of one method."""
        said = description_of(self.view, method)
        if said is None:
            return None
        operation: dict[str, Any] = {
            "operationId": said.name,
            "summary": said.summary,
            "description": "\n\n".join(filter(None, (said.text, _who_may(self.view, method, said)))),
            "tags": [getattr(self.view, "section", "Others")],
            "security": _security(self.view, method, said),
            "parameters": [*_path_parameters(path), *_parameters(said)],
            "responses": _responses(self.view, path, said),
        }
        if said.body is not None:
            operation["requestBody"] = _request_body(said)
        return operation


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: the shared parts, and of the named objects those that are used."""
    result["info"]["description"] = INTRODUCTION
    result["servers"] = [{"url": settings.WEB_URL}]
    used = {operation["tags"][0] for _, _, operation in operations(result)}
    result["tags"] = [{"name": name, "description": says} for name, says in SECTIONS.items() if name in used]
    named = set(re.findall(r'"#/components/responses/(\w+)"', orjson.dumps(result["paths"]).decode()))
    responses = {name: _refusal(status, ()) for status, (name, _) in REFUSALS.items() if name in named}
    shared = {"responses": responses, "headers": _headers(HEADERS), "securitySchemes": _security_schemes()}
    schemas = _reachable({"paths": result["paths"], **shared})
    result["components"] = {"schemas": dict(sorted(schemas.items())), **shared}
    return result


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, METHOD, operation) of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


@cache
def document() -> dict[str, Any]:
    """The whole document; it changes only with the code and the settings."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    return cast(dict[str, Any], generator.get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


@cache
def _served() -> tuple[bytes, str]:
    raw = orjson.dumps(document())
    return raw, f'"{sha256(raw).hexdigest()[:32]}"'


def openapi_json(request: HttpRequest) -> HttpResponse:
    """`/api/openapi.json`, and `/api/doc.json` as the contract has it."""
    raw, tag = _served()
    response = HttpResponse(raw, content_type=JSON, headers={"ETag": tag, "Cache-Control": "public, max-age=300"})
    return cast(HttpResponse, get_conditional_response(request, etag=tag, response=response))


# --- The parts of an operation -------------------------------------------------------------------------------------


def _scope(view: Any, method: str, said: Description) -> str | None:
    if not getattr(view, "project_level", True):
        return None
    return said.scope or getattr(view, "required_scope", {}).get(method)


def _is_open(view: Any) -> bool:
    """Whether nobody has to say who they are."""
    return not getattr(view, "authentication_classes", ())


def _who_may(view: Any, method: str, said: Description) -> str:
    scope = _scope(view, method, said)
    if scope:
        return f"Scope `{scope}`."
    if getattr(view, "is_staff_only", False):
        return "Staff: a session, or a staff key."
    return "" if _is_open(view) else "A person's session, not an API key."


def _security(view: Any, method: str, said: Description) -> list[dict[str, list[str]]]:
    """API key, access token, or a person; roles beside a scheme are what it must have been given."""
    if _is_open(view):
        return []
    scope = _scope(view, method, said)
    if getattr(view, "is_staff_only", False):
        return [{"staffKey": []}, {"session": []}]
    if scope is None:
        return [{"session": []}, {"accessToken": []}]
    return [{"apiKey": [str(scope)]}, {"session": [], "project": []}, {"accessToken": [str(scope)], "project": []}]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATH_KINDS[_kind(name)]}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _kind(name: str) -> str:
    return name.rpartition("_")[2]


def _parameters(said: Description) -> list[dict[str, Any]]:
    places = [("query", said.query), ("header", said.headers)]
    return [_parameter(name, place, schema, said) for place, group in places for name, schema in group.items()]


def _parameter(name: str, place: str, schema: Schema, said: Description) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": place, "schema": _without(schema, "description")}
    if "description" in schema:
        parameter["description"] = schema["description"]
    if name in said.needs:
        parameter["required"] = True
    return parameter


def _request_body(said: Description) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": said.body}
    if said.example is not None:
        content["example"] = said.example
    required = said.takes != JSON or bool(_resolve(said.body or {}).get("required"))
    return {"content": {said.takes: content}, "required": required}


def _responses(view: Any, path: str, said: Description) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": said.answer}
    if said.sample is not None:
        content["example"] = said.sample
    success: dict[str, Any] = {"description": "Done.", "content": {said.gives: content}}
    success["headers"] = {**({} if _is_open(view) else _header_links()), **_headers(said.answer_headers)}
    return {"200": success, **{str(status): _response(status, said) for status in sorted(_statuses(view, path, said))}}


def _statuses(view: Any, path: str, said: Description) -> set[int]:
    """What may be answered beside 200."""
    statuses = {*said.refusals, 503}
    if not _is_open(view):
        statuses |= {400, 401, 403, 429}
    if "{" in path:
        statuses.add(404)
    if "{domain}" in path or "{email}" in path:  # texts, of which some are none
        statuses.add(422)
    if said.query or said.headers:
        statuses |= {400, 422}
    if said.body is not None:
        statuses |= {400, 413, 415, 422}
    return statuses


def _response(status: int, said: Description) -> dict[str, Any]:
    own = said.refusals.get(status)
    return _refusal(status, own) if own else {"$ref": f"#/components/responses/{REFUSALS[status][0]}"}


def _refusal(status: int, texts: Iterable[str]) -> dict[str, Any]:
    """A response of the one shape; `texts` are the messages that an endpoint may give."""
    texts = list(texts)
    general = REFUSALS[status][1]
    listed = "".join(f"\n- `{text}`" for text in texts)
    example = {"message": texts[0] if texts else general, "status": status}
    refusal: dict[str, Any] = {
        "description": f"{general}\n{listed}" if listed else general,
        "content": {JSON: {"schema": ERROR, "example": example}},
    }
    if status in (429, 503):
        refusal["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return refusal


def _headers(texts: Mapping[str, str]) -> dict[str, Any]:
    numbers = {name for name in texts if name.startswith("X-RateLimit-") or name == "Retry-After"}
    return {
        name: {"description": says, "schema": {"type": "integer" if name in numbers else "string"}}
        for name, says in texts.items()
    }


def _header_links() -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS if name.startswith("X-RateLimit-")}


def _security_schemes() -> dict[str, Any]:
    return {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key of a project, 32 hexadecimal characters, from the console.",
        },
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token of the OpenID provider, where the operator takes them.",
        },
        "staffKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "A staff key, `relay_staff_…`: it acts as the person who made it.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A person who has signed in; anything but reading needs the header `X-CSRFToken` as well.",
        },
        "project": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Project-ID",
            "description": "Beside a session or an access token: the project that is meant.",
        },
    }


# --- Named objects -------------------------------------------------------------------------------------------------


def _resolve(schema: Schema) -> Schema:
    reference = schema.get("$ref")
    return COMPONENTS[reference.rpartition("/")[2]] if isinstance(reference, str) else schema


def _reachable(part: Any) -> dict[str, Schema]:
    """The named objects that a part of the document refers to, directly and through others."""
    found: dict[str, Schema] = {}
    rest = [part]
    while rest:
        names = re.findall(r'"#/components/schemas/(\w+)"', orjson.dumps(rest.pop()).decode())
        for name in names:
            if name not in found:
                found[name] = COMPONENTS[name]
                rest.append(COMPONENTS[name])
    return found


def _without(schema: Schema, name: str) -> Schema:
    return {key: value for key, value in schema.items() if key != name}
