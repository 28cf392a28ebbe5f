"""The OpenAPI document: valid, complete in itself, served to everybody, and as strict as the readers of fields."""

import json
import re
from collections import Counter
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from relay_project.web.openapi import document, operations
from relay_project.web.openapi_texts import SECTIONS
from relay_project.web.schema import answer, body, integer, nullable, string, text


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    """What is served, as a client reads it."""
    response = Client().get("/api/openapi.json")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    return json.loads(response.content)


def test_it_is_a_valid_openapi_document(served: dict[str, Any]) -> None:
    assert served["openapi"] == "3.1.0"
    validate_schema(served)


def test_it_is_public_under_both_names_and_cached(client: Client) -> None:
    first, second = client.get("/api/openapi.json"), client.get("/api/doc.json")
    assert first.content == second.content
    again = client.get("/api/openapi.json", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_reference_leads_to_something_and_nothing_is_left_over(served: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/(\w+/[\w-]+)"', json.dumps(served)))
    there = {f"{kind}/{name}" for kind, group in served["components"].items() for name in group}
    there -= {name for name in there if name.startswith("securitySchemes/")}
    assert used == there


def test_operations_have_names_of_their_own_and_known_sections(served: dict[str, Any]) -> None:
    names = Counter(operation["operationId"] for _, _, operation in operations(served))
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z][A-Za-z]+", name)] == []
    assert {operation["tags"][0] for _, _, operation in operations(served)} <= set(SECTIONS)


def test_every_operation_says_who_may_call_it_and_how_it_refuses(served: dict[str, Any]) -> None:
    for path, method, operation in operations(served):
        responses = operation["responses"]
        assert {"200", "503"} <= set(responses), (method, path)
        if operation["security"]:
            assert {"401", "403", "429"} <= set(responses), (method, path)
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= set(responses), (method, path)


def test_examples_fit_their_schemas(served: dict[str, Any]) -> None:
    """What the page shows to copy is what the schema allows."""
    jsonschema = pytest.importorskip("jsonschema")
    found = list(_examples(served))
    assert len(found) > 20
    wrong = []
    for where, schema, example in found:
        whole = {**schema, "components": served["components"]}
        errors = list(jsonschema.Draft202012Validator(whole).iter_errors(example))
        wrong += [(where, error.message) for error in errors]
    assert wrong == []


def _examples(part: Any, where: str = "") -> Any:
    """(where, schema, example) of every media type that has one."""
    if isinstance(part, dict):
        if "example" in part and "schema" in part:
            yield where, part["schema"], part["example"]
        for name, inner in part.items():
            yield from _examples(inner, f"{where}/{name}")


# --- The words -----------------------------------------------------------------------------------------------------


def test_what_a_body_does_not_need_may_be_null() -> None:
    body("ABody", {"a": text(), "b": text()}, ["a"])
    from relay_project.web.schema import COMPONENTS

    fields = COMPONENTS.pop("ABody")["properties"]
    assert (fields["a"]["type"], fields["b"]["type"]) == ("string", ["string", "null"])


def test_null_joins_every_kind_of_schema() -> None:
    assert nullable(integer())["type"] == ["integer", "null"]
    assert nullable({"type": "string", "enum": ["a"]})["enum"] == ["a", None]
    assert nullable({"$ref": "#/x"}) == {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]}
    assert nullable(nullable(string())) == nullable(string())


def test_one_name_is_one_shape() -> None:
    from relay_project.web.schema import COMPONENTS

    answer("AnAnswer", {"a": string()})
    with pytest.raises(ValueError, match="two shapes of the name AnAnswer"):
        answer("AnAnswer", {"a": integer()})
    del COMPONENTS["AnAnswer"]


def test_the_document_is_made_once() -> None:
    assert document() is document()
