"""The reports that the sandbox sends after it has accepted a mail: a DSN (RFC 3464) or an ARF complaint (RFC 5965).

They are written as large receivers write theirs, so that whoever reads them later meets the real thing: multipart
with a part for people, one for machines, and the headers of the mail in question.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from relay_project.mail.headers import encode_header
from relay_project.mail.reply import Reply
from relay_project.mail.text import clean

MAX_HEADERS = 65_536  # characters of the original's headers that a report returns


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report is about: one recipient of a mail that was accepted."""

    reverse_path: str
    recipient: str
    data: bytes  # as received
    peer: str  # the address it came from
    helo_name: str
    received_at: datetime


def bounce(reported: Reported, reply: Reply, reporting_mta: str, now: datetime) -> bytes:
    """A delivery status notification that says "failed" with the code of `reply`; 4yz codes as "expired" would."""
    people = (
        f"This is the mail system at {reporting_mta}.\n\n"
        f"Your message could not be delivered to <{reported.recipient}>:\n\n    {reply}\n"
    )
    machines = _fields(
        [
            ("Reporting-MTA", f"dns; {reporting_mta}"),
            ("Received-From-MTA", f"dns; {reported.helo_name}"),
            ("Arrival-Date", format_datetime(reported.received_at)),
        ],
        [
            ("Final-Recipient", f"{_address_type(reported.recipient)}; {reported.recipient}"),
            ("Action", "failed"),
            ("Status", reply.enhanced or f"{reply.code // 100}.0.0"),
            ("Diagnostic-Code", f"smtp; {reply}"),
            ("Last-Attempt-Date", format_datetime(now)),
        ],
    )
    head = _head(f"Mail Delivery System <mailer-daemon@{reporting_mta}>", reported, reporting_mta, now)
    head += encode_header("Subject", "Undelivered Mail Returned to Sender")
    head += encode_header("Auto-Submitted", "auto-replied")  # RFC 3834 §5
    return head + _body("delivery-status", people, machines, reported)


def complaint(reported: Reported, reporting_mta: str, now: datetime) -> bytes:
    """A feedback report of type "abuse": the recipient pressed the spam button."""
    people = (
        f"This is an email abuse report for a message received from {reported.peer}\n"
        f"on {format_datetime(reported.received_at)}.\n"
    )
    machines = _fields(
        [
            ("Feedback-Type", "abuse"),
            ("User-Agent", "RelaySandbox/1.0"),
            ("Version", "1"),
            ("Original-Mail-From", f"<{reported.reverse_path}>"),
            ("Original-Rcpt-To", f"<{reported.recipient}>"),
            ("Arrival-Date", format_datetime(reported.received_at)),
            ("Reporting-MTA", f"dns; {reporting_mta}"),
            ("Source-IP", reported.peer),
        ]
    )
    head = _head(f"Feedback Loop <fbl@{reporting_mta}>", reported, reporting_mta, now)
    head += encode_header("Subject", f"FW: {_original_subject(reported.data)}")
    return head + _body("feedback-report", people, machines, reported)


def _head(from_: str, reported: Reported, reporting_mta: str, now: datetime) -> bytes:
    fields = [
        ("From", from_),
        ("To", f"<{reported.reverse_path}>"),
        ("Date", format_datetime(now)),
        ("Message-ID", f"<{secrets.token_hex(12)}@{reporting_mta}>"),
        ("MIME-Version", "1.0"),
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode()


def _body(kind: str, people: str, machines: str, reported: Reported) -> bytes:
    """The three parts (RFC 6522 §3), with the header that announces them."""
    boundary = f"report-{secrets.token_hex(12)}"
    parts = [
        ("text/plain; charset=utf-8", people),
        (f"message/{kind}", machines),
        ("text/rfc822-headers", original_headers(reported.data)),
    ]
    lines = [f'Content-Type: multipart/report; report-type={kind}; boundary="{boundary}"', ""]
    for content_type, text in parts:
        encoding = "7bit" if text.isascii() else "8bit"
        lines += [f"--{boundary}", f"Content-Type: {content_type}", f"Content-Transfer-Encoding: {encoding}", "", text]
    lines += [f"--{boundary}--", ""]
    return "\n".join(lines).encode().replace(b"\n", b"\r\n")


def original_headers(data: bytes) -> str:
    """The headers of a received mail with LF line ends, without its body."""
    head = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    return clean(head, MAX_HEADERS) + "\n"


def _original_subject(data: bytes) -> str:
    lines = original_headers(data).split("\n")
    subject = next((line for line in lines if line.lower().startswith("subject:")), "")
    return subject[8:].strip() or "(no subject)"


def _fields(*groups: Sequence[tuple[str, str]]) -> str:
    """Groups of fields with an empty line between them (RFC 3464 §2.1); a value stays on one line."""
    return "\n".join("".join(f"{name}: {' '.join(value.split())}\n" for name, value in group) for group in groups)


def _address_type(address: str) -> str:
    return "rfc822" if address.isascii() else "utf-8"  # RFC 6533 §3
