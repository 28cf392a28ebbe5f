"""sending.preflight: what a mail's own content tells, without a database."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.preflight.content import Look, check_content
from sending.preflight.finding import Level
from sending.preflight.links import Link, check_links, links_of


def look(**fields: Any) -> Look:
    usual: dict[str, Any] = {
        "subject": "Your order", "html": "<p>Hello</p>", "text": "Hello", "header_names": frozenset(),
        "header_one_click": False, "is_bulk": False, "has_link": False, "size_bytes": 900,
    }  # fmt: skip
    return Look(**{**usual, **fields})


def problems(**fields: Any) -> list[str]:
    return [f.check for f in check_content(look(**fields)) if f.level not in (Level.OK,)]


def test_ordinary_mail_has_nothing_against_it() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"subject": " "}, "subject"),
        ({"subject": "BUY THIS NOW PLEASE"}, "subject"),
        ({"subject": "Re: your order"}, "subject"),
        ({"subject": "x" * 79}, "subject"),
        ({"subject": "Now!!"}, "subject"),
        ({"text": None}, "parts"),
        ({"text": " ", "html": "<p>x</p>"}, "parts"),
        ({"text": None, "html": None}, "parts"),
        ({"html": "x" * 102_401}, "size"),
        ({"size_bytes": 6_000_000}, "size"),
        ({"is_bulk": True}, "one_click"),
        ({"is_bulk": True, "header_names": {"list-unsubscribe"}}, "one_click"),
        ({"html": '<a href="http://x.example">x</a>'}, "links"),
    ],
)
def test_what_receivers_mind_is_found(fields: dict[str, Any], check: str) -> None:
    assert problems(**fields) == [check]


@pytest.mark.parametrize(
    "fields", [{"has_link": True}, {"header_names": {"list-unsubscribe"}, "header_one_click": True}]
)
def test_bulk_with_a_one_click_link_is_fine(fields: dict[str, Any]) -> None:
    assert problems(is_bulk=True, **fields) == []


@pytest.mark.parametrize(
    ("url", "text", "says"),
    [
        ("http://shop.example/", "here", "http"),
        ("https://192.0.2.7/x", "here", "bare IP"),
        ("https://[2001:db8::1]/", "here", "bare IP"),
        ("https://bit.ly/x", "here", "shortener"),
        ("https://bank.example@evil.example/", "here", "before the host"),
        ("https://evil.example/", "https://bank.example/login", "another host"),
        ("https://evil.example/", "www.bank.example", "another host"),
    ],
)
def test_links_that_filters_mind(url: str, text: str, says: str) -> None:
    [finding] = check_links([Link(url, text)])
    assert finding.level is Level.WARNING
    assert says in finding.message


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://www.shop.example/a", "shop.example"),
        ("https://click.shop.example/a", "shop.example"),
        ("https://shop.example/", "Version 1.2"),
        ("mailto:a@b.example", "a@b.example"),
    ],
)
def test_links_that_nobody_minds(url: str, text: str) -> None:
    assert [finding.level for finding in check_links([Link(url, text)])] == [Level.OK]


def test_links_of_both_bodies_are_seen() -> None:
    html = '<A HREF=" https://a.example/ ">one <b>two</b></a><a>none</a><a href="https://b.example/">three'
    found = links_of(html, "See https://c.example/x. And http://d.example")
    assert [(link.url, link.text) for link in found] == [
        ("https://a.example/", "one two"),
        ("https://b.example/", "three"),
        ("https://c.example/x", ""),
        ("http://d.example", ""),
    ]


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_bodies_are_read(html: str, text: str) -> None:
    check_links(links_of(f'<a href="{html}">{text}</a>{html}', text))
