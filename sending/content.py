"""From what is stored to the bytes that are sent, and back to what `raw` shows.

Composing is a pure function of the stored rows: product name, instance domain and the writer's version were stored at
accept, so the bytes are the same whenever they are made. RSA PKCS#1 v1.5 and Ed25519 are deterministic and `t=` is stored.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import BinaryField
from django.db.models.functions import Substr

from projects.dkim_keys import signer_of
from projects.models import DkimKey, DkimKeyState
from relay_project.db.ids import hours_after
from relay_project.mail.dkim import Signer, sign
from relay_project.mail.mime import Attachment, Message, NamedAddress, base64_length, compose
from relay_project.mail.placeholders import PlaceholderError, fill
from relay_project.mail.raw import MAX_HEADER, complete, message_id_of, parts_of
from sending.models import Content, Recipient, RecipientType, Send, Signature

MAX_FILLED = 2_097_152  # characters of a body with its values, as of one without
MAX_FILLED_HEADER = 8_192  # characters of a header field with its values: an address, a link, a sentence


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """Everything the bytes depend on. `headers`: pairs in order; `recipients`: (type, address, name) in order."""

    uuid: uuid.UUID
    from_address: str
    from_name: str | None
    subject: str | None
    message_date: datetime
    writer_version: int
    mailer: str
    body_html: str | None
    body_text: str | None
    headers: Sequence[Sequence[str]]
    attachments: Sequence[dict[str, Any]]
    attachment_bodies: Sequence[bytes | memoryview]
    recipients: Sequence[tuple[str, str, str]]
    list_unsubscribe: str | None = None  # the value of that field, where our link stands in it
    raw: bytes | None = None  # the customer's own MIME, in place of subject, bodies and files
    raw_message_id: str | None = None  # its own Message-ID, for who knows it: it need not be looked for
    variables: Mapping[str, str] | None = None  # bodies and headers are shared, and these are to be filled in
    is_forwarded: bool = False  # `raw` came from outside and leaves as it is, with nothing of ours that is not in it

    @property
    def from_domain(self) -> str:
        """The domain that signs first."""
        return self.from_address.rpartition("@")[2]

    @property
    def message_id(self) -> str:
        """Without angle brackets: the contract's `<uuid>@<from-domain>`, or that of the customer's own MIME."""
        own = self.raw_message_id or (None if self.raw is None else message_id_of(self.raw))
        return own or f"{self.uuid}@{self.from_domain}"


def personal(stored: StoredMessage) -> StoredMessage:
    """With its own values in bodies and headers that many share; raises PlaceholderError, which accept() has ruled out."""
    if stored.variables is None:
        return stored
    values = stored.variables
    return replace(
        stored,
        body_html=_filled("body_html", stored.body_html, values, MAX_FILLED, escape=True),
        body_text=_filled("body_text", stored.body_text, values, MAX_FILLED),
        headers=[(name, _filled("headers", value, values, MAX_FILLED_HEADER) or "") for name, value in stored.headers],
        variables=None,
    )


def _filled(field: str, text: str | None, values: Mapping[str, str], most: int, *, escape: bool = False) -> str | None:
    try:
        return fill(text, values, most, escape=escape)
    except PlaceholderError as error:
        error.field = field
        raise


def to_message(stored: StoredMessage) -> Message:
    """The message for the writer."""
    stored = personal(stored)
    return Message(
        from_=NamedAddress(stored.from_address, stored.from_name),
        to=_named(stored, RecipientType.TO),
        cc=_named(stored, RecipientType.CC),
        subject=stored.subject,
        headers=(*((name, value) for name, value in stored.headers), *_list_headers(stored)),
        text=stored.body_text,
        html=stored.body_html,
        attachments=tuple(
            Attachment(bytes(body), what.get("name"), what.get("content_type"), what.get("content_id"))
            for what, body in zip(stored.attachments, stored.attachment_bodies, strict=True)
        ),
        message_id=stored.message_id,
        date=stored.message_date,
        mailer=stored.mailer,
    )


def _list_headers(stored: StoredMessage) -> tuple[tuple[str, str], ...]:
    """RFC 8058 §3.1: the link, and that a POST to it suffices. A signature covers both, as it covers all fields."""
    if stored.list_unsubscribe is None:
        return ()
    return ("List-Unsubscribe", stored.list_unsubscribe), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")


def _named(stored: StoredMessage, kind: RecipientType) -> tuple[NamedAddress, ...]:
    return tuple(NamedAddress(address, name or None) for type_, address, name in stored.recipients if type_ == kind)


def compose_stored(stored: StoredMessage) -> bytes:
    """The message before signing, by the writer it was accepted with; the customer's own MIME with what it lacks."""
    if stored.raw is not None and stored.is_forwarded:
        return stored.raw
    if stored.raw is not None:
        fields = [(name, value) for name, value in stored.headers]
        return complete(stored.raw, stored.message_id, stored.message_date, [*fields, *_list_headers(stored)])
    return compose(to_message(stored), stored.writer_version)


def readable(stored: StoredMessage) -> StoredMessage:
    """With the bodies and header of the customer's own MIME in place, for people to read; others as they are."""
    if stored.raw is None:
        return stored
    parts = parts_of(stored.raw)
    return replace(stored, body_html=parts.html, body_text=parts.text, headers=tuple(parts.headers.items()))


def composed_size(stored: StoredMessage) -> int:
    """The length of what compose_stored() gives; files are not encoded for it, or a batch with one would do it each time."""
    if not stored.attachment_bodies or stored.raw is not None:
        return len(compose_stored(stored))
    bare = replace(stored, attachment_bodies=[b""] * len(stored.attachment_bodies))
    return len(compose_stored(bare)) + sum(map(base64_length, map(len, stored.attachment_bodies)))


def sign_composed(composed: bytes, signers: Sequence[Signer], date: datetime) -> bytes:
    """The DKIM-Signature lines to put in front; `t=` is the message's date."""
    return sign(composed, signers, int(date.timestamp()))


def signers_for(domain_id: int, instance_domain: str) -> list[Signer]:
    """The From domain's signers, its current key first, then the instance domain's (one where they are the same)."""
    keys = DkimKey.objects.select_related("domain").filter(state=DkimKeyState.ACTIVE).order_by("-is_current")
    own = list(keys.filter(domain_id=domain_id))
    instance = list(
        keys.filter(domain__domain=instance_domain, domain__project__is_system=True).exclude(domain_id=domain_id)
    )
    return [signer_of(key) for key in own + instance]


def stored_message(send: Send) -> StoredMessage | None:
    """What one send's bytes are made of, with its own values filled in; None when its content is gone (retention)."""
    content = Content.objects.filter(pk=send.content_id).first()
    if content is None:
        return None
    recipients = Recipient.objects.filter(send_id=send.pk, pk__gte=send.pk, pk__lt=hours_after(send.pk, 1)).order_by(
        "position"
    )
    stored = StoredMessage(
        uuid=send.uuid,
        from_address=send.from_address,
        from_name=send.from_name,
        subject=send.subject,
        message_date=send.message_date,
        writer_version=send.writer_version,
        mailer=send.mailer,
        body_html=content.body_html,
        body_text=content.body_text,
        headers=content.headers,
        attachments=content.attachments,
        attachment_bodies=content.attachment_bodies,
        recipients=[(r.type, r.address, r.name) for r in recipients],
        list_unsubscribe=send.list_unsubscribe,
        raw=None if content.raw is None else bytes(content.raw),
        variables=send.variables,
        is_forwarded=send.forwarded_from is not None,
    )
    return personal(stored)


def message_id_shown(send: Send) -> str:
    """The Message-ID that the mail has, without angle brackets; of a customer's own MIME no more than its header is read."""
    head = Substr("raw", 1, MAX_HEADER, output_field=BinaryField())
    heads = Content.objects.filter(pk=send.content_id, raw__isnull=False).values_list(head, flat=True)
    own = next((message_id_of(bytes(octets)) for octets in heads), None)
    return own or f"{send.uuid}@{send.from_address.rpartition('@')[2]}"


def raw_message(send: Send) -> bytes | None:
    """The message as sent, byte for byte; signed on the fly before the first settle. None when its content is gone."""
    stored = stored_message(send)
    if stored is None:
        return None
    composed = compose_stored(stored)
    if stored.is_forwarded:
        return composed
    signature = Signature.objects.filter(pk=send.pk).first()
    if signature is not None:
        return bytes(signature.header_lines) + composed
    return sign_composed(composed, signers_for(send.domain_id, send.instance_domain), send.message_date) + composed


def find_send(project_id: int, send_id: int) -> Send | None:
    """A project's send by its id."""
    return Send.objects.filter(pk=send_id, project_id=project_id).first() if 0 < send_id < 2**53 else None
