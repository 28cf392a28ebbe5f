"""Passing a mail on: what it leaves with, and whether it may. Pure, but for what is handed in.

The mail itself stays as it is, octet by octet, so that its signatures hold. In front of it stand, from the top: an ARC set,
which says how it was found here; Delivered-To, by which a mail that goes in a circle is known; and Received. A report that
goes back to whose mail it is about gets no set: its From is a machine's that nobody holds against DMARC.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.arc import Chain, ChainResult, seal
from relay_project.mail.dkim import Signer, Unsignable
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Service
from relay_project.net.smtp_server.received import received_header
from sending.inbound.mail import Inbound
from sending.inbound.routing.patterns import fold

MAX_HOPS = 100  # Received fields; RFC 5321 §6.3 asks for that many at the least
MAX_DELIVERED_TO = 20  # fields of ours; a mail that comes for more addresses of a route at once names the first

_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(
    rb"^delivered-to[ \t]*:[ \t]*<?([^\r\n<>]{1,600}?)>?[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")


class NotForwarded(StrEnum):
    """Why a mail is not passed on, as metrics and pages name it."""

    LOOP = "loop"
    HOPS = "hops"
    TOO_LARGE = "too-large"
    DOMAIN_STOPPED = "domain-stopped"
    PROJECT_STOPPED = "project-stopped"
    REFUSED = "refused"
    LIMIT = "limit"
    UNPROVEN = "unproven-sender"
    TOO_MANY_BOUNCES = "too-many-bounces"
    BROKEN = "broken"


IN_WORDS = {
    NotForwarded.LOOP: "It was passed on by this route before: the addresses lead in a circle.",
    NotForwarded.HOPS: f"It came over more than {MAX_HOPS} servers: the addresses lead in a circle.",
    NotForwarded.TOO_LARGE: "It is larger than what this project may send.",
    NotForwarded.DOMAIN_STOPPED: "The project may not send from the domain any more.",
    NotForwarded.PROJECT_STOPPED: "The project may not send.",
    NotForwarded.REFUSED: "It could not be accepted for sending.",
    NotForwarded.LIMIT: "The project's limit of mails did not let it leave within a day.",
    NotForwarded.UNPROVEN: "The mail that it is about was not shown to be from whom it said.",
    NotForwarded.TOO_MANY_BOUNCES: "Too many reports went back to this address within an hour, or about this mail.",
    NotForwarded.BROKEN: "Something went wrong three times.",
}


def goes_in_a_circle(mail: Inbound) -> NotForwarded | None:
    """RFC 5321 §6.3: too many hops, or an address that it was passed on for before."""
    header = mail.octets.partition(b"\r\n\r\n")[0]
    if len(_RECEIVED.findall(header)) > MAX_HOPS:
        return NotForwarded.HOPS
    before = {_folded(found.decode("utf-8", "replace")) for found in _DELIVERED_TO.findall(header)}
    return NotForwarded.LOOP if before & set(map(_folded, mail.recipients)) else None


def trace_fields(mail: Inbound, hostname: str) -> bytes:
    """Delivered-To and Received, as they stand above the mail."""
    peer = Peer(mail.peer, 0, "", 0, Service.MX, helo=mail.helo_name, tls=mail.tls or None)
    # what is beyond ASCII is not named: the field would ask SMTPUTF8 of the next server for a mail that does not need it
    recipients = tuple(map(RcptTo, mail.recipients)) if "".join(mail.recipients).isascii() else ()
    received = received_header(Mail(peer, None, mail.mail_from, recipients, b""), hostname, mail.received_at)
    named = [f"Delivered-To: {one}\r\n" for one in mail.recipients if _PLAIN.fullmatch(one)]
    return "".join(named[:MAX_DELIVERED_TO]).encode("ascii") + received


def leaving(
    mail: Inbound, authentication: dict[str, Any], chain: Chain, signer: Signer | None, hostname: str, now: datetime
) -> bytes:
    """The mail as it is passed on. Without a key, or where no set may follow, it has no ARC set of ours."""
    octets = trace_fields(mail, hostname) + mail.octets
    if signer is None or chain.is_over or chain.result is ChainResult.TEMPERROR:
        return octets
    try:
        return (
            seal(octets, results_in_words(mail, authentication, hostname), signer, chain, int(now.timestamp())) + octets
        )
    except Unsignable:
        return octets


def results_in_words(mail: Inbound, authentication: dict[str, Any], hostname: str) -> str:
    """What was found, as Authentication-Results writes it (RFC 8601 §2.2, RFC 8617 §4.1.1)."""
    spf, dmarc = authentication["spf"], authentication["dmarc"]
    sender = mail.mail_from if _PLAIN.fullmatch(mail.mail_from) else _domain(spf["domain"])
    found = [f"spf={_word(spf['result'])}" + (f" smtp.mailfrom={sender}" if mail.mail_from and sender else _helo(spf))]
    found += [
        f"dkim={_word(one['result'])} header.d={_domain(one['domain'])} header.s={_domain(one['selector'])}"
        for one in authentication["dkim"]
        if _domain(one["domain"]) and _domain(one["selector"])
    ] or ["dkim=none"]
    found.append(
        f"dmarc={_word(dmarc['result'])}" + (f" header.from={_domain(dmarc['domain'])}" if dmarc["domain"] else "")
    )
    arc = authentication.get("arc") or {"result": "none"}
    found.append(f"arc={_word(arc['result'])} smtp.remote-ip={_quoted(mail.peer)}")
    return ";\r\n\t".join([hostname, *found])


def may_go_back(authentication: dict[str, Any]) -> bool:
    """Whether the sender of a mail that was passed on may be told of its bounce: not where something says that it was forged.

    A bounce to somebody who sent nothing is backscatter. A mail about which nobody said anything is taken for honest, as
    everywhere; one report for each address that it was passed on to is the most that follows.
    """
    by_spf = authentication.get("spf", {}).get("result")
    return by_spf not in ("fail", "softfail") and authentication.get("dmarc", {}).get("result") != "fail"


def sender_of(mail: Inbound, from_address: str, domain: str) -> str:
    """The address that the send is shown under: From, the envelope's, or that of nobody in particular."""
    for address in (from_address, mail.mail_from):
        try:
            return parse_mailbox(address).address
        except InvalidAddress:
            continue
    return f"mailer-daemon@{domain}"


def first_rsa(signers: Sequence[Signer]) -> Signer | None:
    """ARC is signed by RSA: of others few know (RFC 8617 has none but DKIM's algorithms, and verifiers have that one)."""
    return next((one for one in signers if one.key.algorithm == "rsa-sha256"), None)


def _folded(address: str) -> str:
    local, _, domain = address.strip().rpartition("@")
    return f"{fold(local)}@{domain.lower()}"


def _helo(spf: dict[str, Any]) -> str:
    return f" smtp.helo={_domain(spf['domain'])}" if _domain(spf["domain"]) else ""


def _domain(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", text) else ""


def _word(text: str) -> str:
    return text if re.fullmatch(r"[a-z]{1,20}", text) else "permerror"


def _quoted(text: str) -> str:
    return f'"{text}"' if ":" in text else text
