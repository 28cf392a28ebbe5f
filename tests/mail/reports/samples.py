"""Reports for people's eyes, made from the samples of corpus/prose.toml."""

import base64
import tomllib
from dataclasses import dataclass
from email.header import Header
from pathlib import Path

TOKEN = "b." + "a" * 48 + "@rp.example.com"


@dataclass(frozen=True, slots=True)
class Sample:
    """One mail, and "address class action" of each recipient that it must come to; none where it is no bounce."""

    name: str
    octets: bytes
    expect: list[str]


def samples_of(path: Path, to: str = "alice@example.com") -> list[Sample]:
    """Make the mails of a file of samples."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mail"]
    return [Sample(row["name"], _mail(row, to), row.get("expect", [])) for row in rows]


def _mail(row: dict[str, object], to: str) -> bytes:
    subtype, charset = str(row.get("type", "text/plain")), str(row.get("charset", "utf-8"))
    text = str(row["text"]).strip("\n") + "\n"
    recipients = [line.split()[0] for line in row.get("expect", [])]  # type: ignore[attr-defined]
    back = f"Message-ID: <1@example.com>\nFrom: Alice <alice@example.com>\nTo: {', '.join(recipients)}\n"
    back += "Subject: Hello\n\nHello.\n"
    head = [
        *([f"Return-Path: {row.get('return_path', '<>')}"] if row.get("return_path") != "" else []),
        f"From: {_encoded(str(row['from']))}",
        f"To: <{row.get('to', to)}>",
        f"Subject: {_encoded(str(row['subject']))}",
        "Date: Thu, 29 Apr 2027 23:45:22 +0000",
        "Message-ID: <2@mx.example.org>",
        *str(row.get("headers", "")).splitlines(),
        "MIME-Version: 1.0",
    ]
    if row.get("then"):
        text += f"\n{row['then']}\n\n{back}"
    elif "text/html" not in subtype and row.get("then") == "" and recipients:
        text += f"\n{back}"
    body = base64.encodebytes(text.encode(charset)).decode()
    part = f"Content-Type: {subtype}; charset={charset}\nContent-Transfer-Encoding: base64\n\n{body}"
    if not row.get("attached"):
        return "\n".join([*head, part]).encode()
    parts = f"--=b\n{part}\n--=b\nContent-Type: message/rfc822\n\n{back}\n--=b--\n"
    return "\n".join([*head, 'Content-Type: multipart/mixed; boundary="=b"', "", parts]).encode()


def _encoded(value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8").encode()
