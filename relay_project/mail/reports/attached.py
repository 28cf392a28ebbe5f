"""The parts of a mail that may carry a report as a file, whatever they call themselves."""

from collections.abc import Iterator
from email.message import Message

from relay_project.mail.reports.message import header, leaves, octets_of
from relay_project.mail.reports.packed import is_packed

MAX_TRIED = 5  # files of one mail
_MARKUP = (b"<", b"{", b"\xef\xbb\xbf")


def attachments(message: Message) -> Iterator[tuple[Message, bytes]]:
    """Leaves that are packed, or begin as XML and JSON do, with their octets; text that somebody wrote is none."""
    tried = 0
    for part in leaves(message):
        kind = part.get_content_type()
        if kind.startswith("message/") or (kind == "text/html"):
            continue
        octets = octets_of(part)
        if is_packed(octets) or octets[:200].lstrip().startswith(_MARKUP):
            yield part, octets
            tried += 1
        if tried == MAX_TRIED:
            return


def file_name(part: Message) -> str:
    """What the part says its file is called; empty when it does not, or says it in a way nobody can read."""
    try:
        name = part.get_filename("") or ""
    except (LookupError, ValueError, TypeError):
        name = ""
    return str(name).strip() or header(part, "Content-Description")
