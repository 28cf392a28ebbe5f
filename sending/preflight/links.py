"""Links of a mail as filters see them: text that names another host than its link, bare addresses, shorteners.

Pure, and nothing is fetched: who asks for a pre-flight must not make us visit what they like.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlsplit

from sending.preflight.finding import Finding, info, ok, warning

MAX_LINKS = 500  # looked at
MANY_LINKS = 50  # newsletters have some twenty
SHOWN = 100  # characters of a link in a message

# Hosts whose links hide where they lead; filters count them against a mail.
SHORTENERS = frozenset(
    (
        *("bit.ly", "buff.ly", "cutt.ly", "goo.gl", "is.gd", "lnkd.in", "ow.ly", "rb.gy", "rebrand.ly"),
        *("shorturl.at", "t.co", "t.ly", "tiny.cc", "tinyurl.com", "v.gd"),
    )
)
_HOST_IN_TEXT = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?:[/:?#]\S*)?\Z", re.IGNORECASE)
_URL_IN_TEXT = re.compile(r"https?://[^\s<>\"')\]]{3,2000}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """Where it leads, and the words it stands behind (empty in plain text)."""

    url: str
    text: str = ""

    @property
    def scheme(self) -> str:
        """In lower case; empty where there is none."""
        return _parts(self.url)[0]

    @property
    def host(self) -> str:
        """In lower case; empty where there is none."""
        return _parts(self.url)[1]


def links_of(html: str | None, text: str | None) -> list[Link]:
    """The links of both bodies, at most MAX_LINKS."""
    found = [Link(match[0].rstrip(".,;:!?")) for match in _URL_IN_TEXT.finditer(text or "")]
    reader = _Anchors()
    try:
        reader.feed(html or "")
        reader.close()
    except (AssertionError, ValueError):  # html.parser's answer to some malformed declarations
        pass
    return [*reader.links, *found][:MAX_LINKS]


def check_links(links: Sequence[Link]) -> list[Finding]:
    """What is wrong with links; one finding for each kind."""
    web = [link for link in links if link.scheme in ("http", "https")]
    if not web:
        return [ok("links", "No links.")]
    found = [
        _about([link for link in web if link.scheme == "http"], "would not be encrypted (http)"),
        _about([link for link in web if _is_address(link.host)], "would lead to a bare IP address"),
        _about([link for link in web if link.host.removeprefix("www.") in SHORTENERS], "would hide behind a shortener"),
        _about(
            [link for link in web if "@" in urlsplit_netloc(link.url)],
            "would have a name before the host, as phishing has",
        ),
        _about([link for link in web if _is_masked(link)], "would lead to another host than the text names"),
    ]
    problems = [finding for finding in found if finding is not None]
    if len(links) > MANY_LINKS:
        problems.append(info("links", f"{len(links)} links are many; filters count them."))
    return problems or [ok("links", f"{_number(len(web))}, all https.")]


def _about(links: Sequence[Link], what: str) -> Finding | None:
    if not links:
        return None
    return warning("links", f"{_number(len(links))} {what}, such as {links[0].url[:SHOWN]}.")


def _number(count: int) -> str:
    return "1 link" if count == 1 else f"{count} links"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.isdigit()  # browsers read a bare number as IPv4
    return True


def _is_masked(link: Link) -> bool:
    named = _HOST_IN_TEXT.match(link.text.strip())
    if named is None:
        return False
    shown, real = named[1].lower().removeprefix("www."), link.host.removeprefix("www.")
    return shown != real and not real.endswith(f".{shown}") and not shown.endswith(f".{real}")


def urlsplit_netloc(url: str) -> str:
    """The part between `//` and the path; empty for what is no URL."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url.strip())
        return parts.scheme.lower(), (parts.hostname or "").lower()
    except ValueError:
        return "", ""


class _Anchors(HTMLParser):
    """Collects links with their text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[Link] = []
        self._href: str | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._finish()
            self._href = dict(attrs).get("href")

    def handle_data(self, data: str) -> None:
        if self._href is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._finish()

    def close(self) -> None:
        super().close()
        self._finish()

    def _finish(self) -> None:
        if self._href and len(self.links) < MAX_LINKS:
            self.links.append(Link(self._href.strip(), "".join(self._text)[:500]))
        self._href, self._text = None, []
