"""How a view says what it does: `@describe(...)` above each method, from which the OpenAPI document is made."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rest_framework.views import APIView

from relay_project.web.schema import EMPTY_OBJECT, Schema

View = TypeVar("View", bound=Callable[..., Any])
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Description:
    """What describe() was told."""

    name: str
    summary: str
    text: str
    answer: Schema
    body: Schema | None
    query: Mapping[str, Schema]
    headers: Mapping[str, Schema]
    refusals: Mapping[int, Collection[str]]
    needs: Collection[str]
    example: Any
    sample: Any
    takes: str
    gives: str
    scope: str | None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


def describe(
    name: str,
    summary: str,
    text: str = "",
    *,
    answer: Schema = EMPTY_OBJECT,
    body: Schema | None = None,
    query: Mapping[str, Schema] | None = None,
    headers: Mapping[str, Schema] | None = None,
    refusals: Mapping[int, Collection[str]] | None = None,
    needs: Collection[str] = (),
    example: Any = None,
    sample: Any = None,
    takes: str = JSON,
    gives: str = JSON,
    scope: str | None = None,
    answer_headers: Mapping[str, str] | None = None,
) -> Callable[[View], View]:
    """Describe a view's method, or a plain view.

    `name` is the operation's: generated clients call their method so. `text` is Markdown for its users. `query`, `headers`
    and `body` are what the request holds (`needs` names the parameters that must be there), `answer` is what 200 holds.
    `refusals` are the endpoint's own, by status; those that every endpoint has are added. `example` is a body to send and
    `sample` an answer to it. `takes` and `gives` are the media types, `scope` a plain view's (others have
    `required_scope`), and `answer_headers` what a success may carry: name → meaning.
    """
    description = Description(
        name=name,
        summary=summary,
        text=text,
        answer=answer,
        body=body,
        query=query or {},
        headers=headers or {},
        refusals=refusals or {},
        needs=needs,
        example=example,
        sample=sample,
        takes=takes,
        gives=gives,
        scope=scope,
        answer_headers=answer_headers or {},
    )

    def mark(view: View) -> View:
        view.described = description  # type: ignore[attr-defined]
        return view

    return mark


def described_as(others: type[APIView], **methods: Callable[..., Any]) -> Callable[[View], View]:
    """Above a plain view that answers some methods itself (`post=submit`) and hands `others` the rest.

    The document's maker finds views by their class: it gets one that has the methods of both.
    """

    def mark(view: View) -> View:
        view.cls = type(others.__name__, (others,), dict(methods))  # type: ignore[attr-defined]
        view.initkwargs = {}  # type: ignore[attr-defined]
        return view

    return mark


def description_of(view: object, method: str) -> Description | None:
    """What a view's method said of itself."""
    return getattr(getattr(view, method.lower(), None), "described", None)
