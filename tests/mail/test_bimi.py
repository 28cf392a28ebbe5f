"""relay_project.mail.bimi: records as they are published."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.bimi import InvalidRecord, Record, find_record, parse_record

LOGO, MARK = "https://example.com/logo.svg", "https://example.com/mark.pem"


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (f"v=BIMI1; l={LOGO}; a={MARK}", Record(LOGO, MARK)),
        (f"v=BIMI1;l={LOGO};a=;", Record(LOGO, "")),
        (f" v = BIMI1 ; L = {LOGO} ; avp=brand", Record(LOGO, "")),
        ("v=BIMI1; l=; a=;", Record("", "")),
    ],
)
def test_records_are_read(text, record):
    assert parse_record(text) == record
    assert find_record(["v=spf1 -all", text]) == text.strip()
    assert record.declines == (not record.location)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("v=BIMI2; l=", "does not begin"),
        (f"l={LOGO}; v=BIMI1", "does not begin"),
        ("v=BIMI1", "no l="),
        ("v=BIMI1; l=http://example.com/logo.svg", "its l= is no https address"),
        ("v=BIMI1; l=https://", "its l= is no https address"),
        ("v=BIMI1; l=https://[/", "its l= is no https address"),
        (f"v=BIMI1; l={LOGO}; a=self", "its a= is no https address"),
    ],
)
def test_what_is_none_says_why(text, why):
    with pytest.raises(InvalidRecord, match=why):
        parse_record(text)


def test_several_count_as_none():
    assert find_record(["v=DMARC1; p=none"]) is None
    with pytest.raises(InvalidRecord, match="several"):
        find_record([f"v=BIMI1; l={LOGO}", "v=BIMI1; l="])


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: f"v=BIMI1; l={text}"))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(InvalidRecord):
        parse_record(text)
