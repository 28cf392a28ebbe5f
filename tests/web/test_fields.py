"""web.fields and web.pagination: bad values are named, none reaches the database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.web.errors import ApiError, Violations
from relay_project.web.fields import MAX_BIGINT, Fields, parse_integer
from relay_project.web.json import FormData
from relay_project.web.pagination import Page, read_page, read_path_id, read_text


def noted(fields: Fields) -> list[tuple[str, str]]:
    return [(violation.property, violation.message) for violation in fields.violations]


def test_good_fields_pass():
    fields = Fields({"name": "x", "n": 5, "on": False, "list": ["a"], "kind": "b"})
    assert fields.text("name", required=True) == "x"
    assert fields.integer("n") == 5
    assert fields.boolean("on") is False
    assert fields.texts("list", required=True) == ["a"]
    assert fields.choice("kind", ["a", "b"]) == "b"
    fields.check()


def test_what_is_absent_or_null_is_none():
    fields = Fields({"name": None})
    assert fields.text("name") is fields.integer("n") is fields.boolean("on") is fields.texts("list") is None
    fields.check()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "This value should not be blank."),
        ("", "This value should not be blank."),
        ("  ", "This value should not be blank."),
        (1, "This value should be of type string."),
        ([], "This value should be of type string."),
        ("a\0b", "This value should not contain NUL characters."),
        ("x" * 256, "This value is too long. It should have 255 characters or less."),
    ],
)
def test_bad_text_is_named(value, message):
    fields = Fields({"name": value})
    assert fields.text("name", required=True) is None
    assert noted(fields) == [("name", message)]


def test_a_whole_number_with_a_point_is_a_whole_number():
    """Some languages write 5 as 5.0, and JSON has one kind of number."""
    assert Fields({"n": 5.0}).integer("n") == 5


@pytest.mark.parametrize("value", ["5", 5.5, True, [], {}, MAX_BIGINT + 1, 1e29])
def test_bad_integers_are_named(value):
    fields = Fields({"n": value})
    assert fields.integer("n") is None
    assert noted(fields)[0][0] == "n"


@pytest.mark.parametrize(("value", "path"), [("a", "l"), ({}, "l"), (["a", 1], "l[1]"), (["\0"], "l[0]"), ([], "l")])
def test_bad_lists_name_the_item(value, path):
    fields = Fields({"l": value})
    assert fields.texts("l", required=True) is None
    assert noted(fields)[0][0] == path


def test_forms_may_say_numbers_and_truths_as_text():
    fields = Fields(FormData({"n": "5", "on": "true", "bad": "x", "empty": ""}))
    assert fields.integer("n") == 5
    assert fields.boolean("on") is True
    assert fields.integer("empty") is None
    fields.check()
    assert fields.integer("bad") is None
    with pytest.raises(Violations, match="bad: This value should be of type int"):
        fields.check()


@given(st.text())
def test_whatever_is_read_as_a_number_fits_a_bigint(text):
    value = parse_integer(text)
    assert value is None or abs(value) <= MAX_BIGINT


def test_pages_have_bounds():
    assert read_page({}) == Page(50)
    assert read_page({"limit": "1000", "offset": "3", "before_id": "9"}) == Page(1000, 3, 9)


@pytest.mark.parametrize("query", [{"limit": "x"}, {"offset": "1.5"}, {"before_id": "9" * 30}, {"limit": "٣"}])
def test_a_query_that_is_no_number_is_400(query):
    with pytest.raises(ApiError, match="Invalid query parameter") as refused:
        read_page(query)
    assert refused.value.status == 400


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"offset": "-1"}, {"offset": "99999999999"}])
def test_a_query_out_of_bounds_is_422(query):
    with pytest.raises(Violations):
        read_page(query)


@pytest.mark.parametrize(("raw", "status"), [("x", 400), ("1x", 400), ("\0", 400), ("9" * 30, 404), ("0", 404)])
def test_bad_ids_in_paths_are_refused(raw, status):
    with pytest.raises(ApiError) as refused:
        read_path_id(raw)
    assert refused.value.status == status


def test_query_text_has_no_nul():
    assert read_text({"search": "x"}, "search") == "x"
    assert read_text({"search": ""}, "search") is None
    with pytest.raises(ApiError, match="search"):
        read_text({"search": "\0"}, "search")


def test_a_whole_number_may_be_written_with_a_point():
    """JSON has one kind of number: 1.0 is 1, and 1.5 is none."""
    fields = Fields({"a": 1.0, "b": [1.0, 2], "c": 1.5, "d": 1e300})
    assert (fields.integer("a"), fields.integers("b")) == (1, [1, 2])
    assert (fields.integer("c"), fields.integer("d")) == (None, None)
    assert [violation.property for violation in fields.violations] == ["c", "d"]
