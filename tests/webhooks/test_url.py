"""webhooks.url: what may be called, judged by its spelling (lesson S2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.web.errors import Violations
from webhooks.url import MAIL, NOT_A_URL, PRIVATE, check_url


def refusal(url: str) -> str | None:
    try:
        assert check_url(url) == url.strip()
    except Violations as refused:
        (wrong,) = refused.violations
        return wrong.message if wrong.property == "url" else wrong.property
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/relay",
        "http://shop.example:8080/a?b=c#d",
        "https://user:word@shop.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://hooks/",
        "https://my_hooks.example.com",
        "https://bücher.example/",
        "https://shop.example./x",
        "HTTPS://SHOP.EXAMPLE/",
        " https://shop.example/ ",
    ],
)
def test_public_urls_are_taken(url):
    assert refusal(url) is None


# Link-local, no address, multicast, metadata, translations: nobody's webhook is there.
NEVER = ("fe80:", "//0.0.0.0/", "//169.254.", "//224.", "168.63", "100.100", "[64:", "[::ffff:0:", "fd20:")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/state",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://１２７.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:10.0.0.1]:80/",
        "http://[fe80::1%25eth0]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://224.0.0.1/",
        "http://localhost/",
        "http://localhost.:8085/state",
        "http://LocalHost/",
        "http://relay.localhost/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://user@127.0.0.1/",
        "http://a@b@127.0.0.1/",
        "http://[fec0::2]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://168.63.129.16/machine",
        "http://100.100.100.200/",
        "http://[fd20:ce::254]/",
        "http://①②⑦.0.0.1/",
        "http://ⓛocalhost/",
    ],
)
def test_this_machine_and_its_neighbours_are_refused(url, settings):
    settings.PRIVATE_WEBHOOKS = False
    assert refusal(url) == PRIVATE
    settings.PRIVATE_WEBHOOKS = True
    assert refusal(url) == (PRIVATE if any(part in url for part in NEVER) else None)


@pytest.mark.parametrize(
    "url",
    [
        "", "shop.example", "//shop.example/", "ftp://shop.example/", "javascript:alert(1)", "https://", "https:///x",
        "https://a b/", "https://shop.example/\r\nX: y", "https://shop.example\\@127.0.0.1/", "https://[::1/", "https://[x]/",
        "https://shop.example:99999/", "https://shop.example:0/", "https://shop.example:x/", "https://-a.example/",
        "https://a..example/",
        "https://é:x@shop.example/", f"https://{'a' * 64}.example/", "https://%31.example/", f"https://a.example/{'x' * 240}",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(url, settings):
    settings.PRIVATE_WEBHOOKS = True
    assert refusal(url) == NOT_A_URL


@pytest.mark.parametrize("url", ["http://mx.shop.example:25/", "https://shop.example:465/", "http://8.8.8.8:587/x"])
def test_ports_of_mail_servers_are_refused(url):
    assert refusal(url) == MAIL


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"https://{text}/"))
def test_any_text_is_taken_or_refused(text):
    refusal(text)
