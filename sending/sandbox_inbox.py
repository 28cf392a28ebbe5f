"""The sandbox's inbox: what it received, whose it was, and whether its signatures verify.

Signatures are judged by dkimpy, over the TXT records that DNS (the sandbox's) gives: the proof that a receiver would see.
"""

import email.header
import email.policy
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from projects.dkim_keys import dkim_txt_value
from projects.models import DkimKey, Domain
from relay_project.db.keyring import ring
from relay_project.mail import srs
from relay_project.mail.dkim_check import TxtLookup, check_signatures
from relay_project.mail.srs import ExpiredSrs, ForgedSrs, NotSrs
from relay_project.mail.text import clean
from relay_project.mail.verp import ForgedToken, NotAToken, read_reverse_path
from relay_project.sandbox.smtp import ReceivedMail
from sending.models import SandboxMessage, Send

KEPT = 5000  # messages in the inbox; older ones leave


def store(mail: ReceivedMail, txt: TxtLookup) -> SandboxMessage:
    """Keep one received mail, with the verdict on its signatures."""
    close_old_connections()
    parsed = BytesHeaderParser(policy=email.policy.compat32).parsebytes(mail.data)
    send = _send_of(mail)
    return SandboxMessage.objects.create(
        project_id=send.project_id if send else None,
        send_id=send.pk if send else None,
        reverse_path=clean(mail.reverse_path, 320),
        recipients=[clean(recipient, 320) for recipient in mail.recipients],
        helo_name=clean(mail.helo_name, 255),
        peer=clean(mail.peer, 64),
        is_tls=mail.tls,
        subject=_header(parsed, "Subject"),
        from_header=_header(parsed, "From"),
        data=mail.data,
        dkim_results=check_signatures(mail.data, txt),
    )


def _send_of(mail: ReceivedMail) -> Send | None:
    """The send that the signed return path names; reports come back to it as recipients, so those count too."""
    for address in (mail.reverse_path, *mail.recipients):
        try:
            send_id = read_reverse_path(address, ring("return-path")).send_id
        except (NotAToken, ForgedToken):
            try:
                send_id = srs.read(address, ring("return-path"), datetime.now(UTC).date()).send_id
            except (NotSrs, ForgedSrs, ExpiredSrs):
                continue
        return Send.objects.filter(pk=send_id).first()
    return None


def _header(parsed: Any, name: str) -> str:
    raw = parsed.get(name)
    if raw is None:
        return ""
    parts = email.header.decode_header(str(raw))
    return clean(str(email.header.make_header(parts)) if len(parts) < 100 else str(raw), 998)


def published_txt(name: str) -> list[str]:
    """What the sandbox's DNS answers for TXT: DKIM of our domains, SPF of their return paths, SPF and DMARC of all others."""
    close_old_connections()
    asked = name.rstrip(".").lower()
    selector, marker, domain = asked.partition("._domainkey.")
    if marker:
        keys = DkimKey.objects.filter(domain__domain=domain, selector__iexact=selector).defer("private_key")
        return sorted({dkim_txt_value(key) for key in keys})
    if asked.startswith("_dmarc."):
        return ["v=DMARC1; p=none"]
    if Domain.objects.filter(return_path=asked).exists():
        return [f"v=spf1 include:{settings.INSTANCE_DOMAIN} -all"]
    return [] if asked.startswith("_") else ["v=spf1 ip4:127.0.0.0/8 ~all"]


def trim() -> int:
    """Drop all but the newest messages; returns how many left."""
    newest = SandboxMessage.objects.order_by("-id").values_list("id", flat=True)[KEPT : KEPT + 1]
    deleted = 0
    for limit in newest:
        deleted, _ = SandboxMessage.objects.filter(pk__lte=limit).delete()
    return deleted
