"""Placeholders: every value in its place, escaped in HTML, and nothing that a value could do."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.placeholders import (
    MAX_PLACEHOLDERS,
    PlaceholderError,
    Template,
    has_placeholders,
    read_template,
)

TEXTS = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("{}\\<&"))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


def fill(text: str, most: int = 10_000, *, escape: bool = False, **values: str) -> str:
    return read_template(text).fill(values, most, escape=escape)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hi {{name}}!", "Hi Ann & Bob!"),
        ("{{ name }}{{name}}", "Ann & BobAnn & Bob"),
        ("{{{name}}}", "Ann & Bob"),
        ("{{order.id-2}}", "7"),
        (r"\{{name}} {{name}}", "{{name}} Ann & Bob"),
        ("{name} { {name} } }}", "{name} { {name} } }}"),
        ("", ""),
        ("none", "none"),
    ],
)
def test_a_placeholder_becomes_its_value(text: str, filled: str) -> None:
    assert fill(text, name="Ann & Bob", **{"order.id-2": "7"}) == filled


def test_html_gets_names_and_never_markup_unless_it_is_asked_for() -> None:
    values = {"name": '<b title="x">Ann\'s</b>'}
    assert fill("<p>{{name}}</p>", escape=True, **values) == (
        "<p>&lt;b title=&quot;x&quot;&gt;Ann&#x27;s&lt;/b&gt;</p>"
    )
    assert fill("<p>{{{name}}}</p>", escape=True, **values) == '<p><b title="x">Ann\'s</b></p>'


@pytest.mark.parametrize(
    "text", ["{{", "{{}}", "{{ }}", "{{a b}}", "{{1a}}", "{{#each}}", "{{a}", "{{" + "a" * 65 + "}}"]
)
def test_braces_that_are_no_placeholder_are_refused_with_what_they_are(text: str) -> None:
    with pytest.raises(PlaceholderError, match="is not a placeholder"):
        read_template("Dear " + text)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(PlaceholderError, match=r"^The variable nmae is missing\.$"):
        fill("Hi {{nmae}}", name="Ann")


def test_what_would_be_too_long_is_refused_before_it_is_built() -> None:
    assert len(fill("{{a}}" * 10, 100, a="x" * 10)) == 100
    with pytest.raises(PlaceholderError, match="100 characters or less"):
        fill("{{a}}" * MAX_PLACEHOLDERS, 100, a="x" * 1_000_000)
    with pytest.raises(PlaceholderError, match=f"more than {MAX_PLACEHOLDERS}"):
        read_template("{{a}}" * (MAX_PLACEHOLDERS + 1))


@given(TEXTS)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        template = read_template(text)
    except PlaceholderError:
        assert "{{" in text
    else:
        assert isinstance(template, Template)
        if not has_placeholders(text):
            assert template.fill({}, len(text)) == text


@given(st.lists(st.tuples(TEXTS.filter(lambda text: "{" not in text and "\\" not in text), NAMES)), st.data())
def test_what_was_put_together_comes_out_with_each_value_whole(
    pieces: list[tuple[str, str]], data: st.DataObject
) -> None:
    """A value that looks like a placeholder, or like markup, stays what it is."""
    values = {name: data.draw(TEXTS) for _, name in pieces}
    text = "".join(f"{before}{{{{{name}}}}}" for before, name in pieces)
    template = read_template(text)
    assert template.fill(values, 10**9) == "".join(before + values[name] for before, name in pieces)
    escaped = "".join(before + html.escape(values[name]) for before, name in pieces)
    assert template.fill(values, 10**9, escape=True) == escaped
