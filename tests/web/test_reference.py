"""The page that describes the API: every call and object, anchors that lead somewhere, nothing that needs a script."""

import re

import pytest
from django.test import Client

from relay_project.web.openapi import document, operations
from relay_project.web.reference import Word, rule, words
from relay_project.web.schema import choice, identifier, integer, listed, nullable, string, text


@pytest.fixture(scope="module")
def page() -> str:
    """As a stranger sees it."""
    response = Client().get("/api/docs")
    assert response.status_code == 200
    return response.content.decode()


def test_every_call_and_every_object_stands_on_the_page(page: str) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document())]
    names += [f"object-{name}" for name in document()["components"]["schemas"]]
    assert [name for name in names if f'id="{name}"' not in page] == []


def test_every_anchor_leads_somewhere(page: str) -> None:
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_nothing_of_it_is_written_into_the_page_as_markup(page: str) -> None:
    """Descriptions are text: what looks like a tag in them is shown."""
    assert "Bearer &lt;key&gt;" in page
    assert "style=" not in page


def test_calls_are_shown_as_curl_examples_with_their_bodies(page: str) -> None:
    shown = re.findall(r'<pre class="code"[^>]*>(.*?)</pre>', page, re.DOTALL)
    sends = next(example for example in shown if "/api/console/sends \\" in example and "order" in example.lower())
    assert "Authorization: Bearer $KEY" in sends


@pytest.mark.parametrize(
    ("schema", "shown", "bounds"),
    [
        (text(maximum=998), "text", "at most 998 characters"),
        (text(blank=False), "text", "not blank; at most 255 characters"),
        (nullable(string()), "text or null", ""),
        (identifier(), "integer", ""),
        (integer(least=1, most=1000, default=50), "integer", "1 to 1,000; default `50`"),
        (integer(least=0), "integer", "at least 0"),
        (choice(("a", "b")), "text", "`a`, `b`"),
        (listed({"$ref": "#/components/schemas/Send"}, maxItems=10), "list of Send", "at most 10"),
        (nullable({"$ref": "#/components/schemas/Send"}), "Send or null", ""),
        (string(format="date-time"), "date time", ""),
    ],
)
def test_schemas_are_told_in_words(schema: dict, shown: str, bounds: str) -> None:
    assert "".join(word.text for word in words(schema)) == shown
    assert rule(schema) == bounds


def test_a_named_object_is_a_link() -> None:
    assert list(words({"$ref": "#/components/schemas/Send"})) == [Word("Send", "object-Send")]
