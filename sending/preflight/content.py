"""What the mail itself tells: subject, parts, size, links, and the one-click link that bulk mail needs. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from sending.preflight.finding import Finding, info, ok, warning
from sending.preflight.links import check_links, links_of

LONG_SUBJECT = 78  # characters, RFC 5322 §2.1.1's line; phones show about 40
CLIPPED_HTML = 102_400  # octets: Gmail clips a longer body
LARGE_MAIL = 5_000_000  # octets, our own: many mailboxes refuse more than 10 MB, and encoding has added a third


@dataclass(frozen=True, slots=True)
class Look:
    """The mail as its reader will see it; `header_names` in lower case."""

    subject: str
    html: str | None
    text: str | None
    header_names: Collection[str]
    header_one_click: bool  # List-Unsubscribe-Post says One-Click
    is_bulk: bool
    has_link: bool  # list_unsubscribe was asked for
    size_bytes: int | None


def check_content(look: Look) -> list[Finding]:
    """All of it, in the order in which people read."""
    return [
        *_subject(look.subject),
        *_parts(look),
        *_size(look),
        *_one_click(look),
        *check_links(links_of(look.html, look.text)),
    ]


def _subject(subject: str) -> list[Finding]:
    words = subject.strip()
    letters = [char for char in words if char.isalpha()]
    found = []
    if not words:
        found.append(warning("subject", "The subject is empty.", "subject"))
    if len(words) > LONG_SUBJECT:
        found.append(info("subject", f"{len(words)} characters are more than most readers show.", "subject"))
    if len(letters) > 8 and all(char.isupper() for char in letters):
        found.append(warning("subject", "The subject is all capitals.", "subject"))
    if words.lower().startswith(("re:", "fwd:", "fw:")):
        found.append(
            warning("subject", "The subject looks like an answer; filters and readers mind if it is none.", "subject")
        )
    if words.count("!") > 1 or words.count("?") > 2:
        found.append(info("subject", "Repeated punctuation counts against a mail.", "subject"))
    return found or [ok("subject", "The subject is fine.", "subject")]


def _parts(look: Look) -> list[Finding]:
    if look.html and not (look.text or "").strip():
        return [warning("parts", "There is no text beside the HTML; filters and some readers want one.", "body_text")]
    if not look.html and not look.text:
        return [info("parts", "There is nothing to read but files.")]
    return [ok("parts", "There is text to read." if not look.html else "There is text beside the HTML.")]


def _size(look: Look) -> list[Finding]:
    found = []
    if look.html and len(look.html.encode("utf-8", "replace")) > CLIPPED_HTML:
        found.append(warning("size", "Gmail clips HTML of more than 102,400 bytes.", "body_html"))
    if look.size_bytes is not None and look.size_bytes > LARGE_MAIL:
        found.append(warning("size", f"{look.size_bytes:,} bytes are more than some mailboxes take."))
    if not found and look.size_bytes is not None:
        found.append(ok("size", f"{look.size_bytes:,} bytes."))
    return found


def _one_click(look: Look) -> list[Finding]:
    """RFC 8058, which Gmail and Yahoo ask of all mail that is sent in numbers."""
    if look.has_link:
        return [ok("one_click", "A one-click unsubscribe link will be added.")]
    if "list-unsubscribe" in look.header_names:
        if look.header_one_click:
            return [ok("one_click", "The mail has a one-click unsubscribe link of its own.")]
        message = "List-Unsubscribe is there, but List-Unsubscribe-Post: List-Unsubscribe=One-Click is not (RFC 8058)."
        return [(warning if look.is_bulk else info)("one_click", message, "headers")]
    if look.is_bulk:
        message = "Bulk mail needs a one-click unsubscribe link for Gmail and Yahoo: send with list_unsubscribe."
        return [warning("one_click", message, "list_unsubscribe")]
    return [ok("one_click", "Transactional mail needs no unsubscribe link.")]
