"""A project with a past, written straight into the tables: what the console's pages are looked at with."""

import hashlib
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import connection

from accounts.models import User
from ips.models import HeldSite, Server, SourceIp
from projects.api_keys import create_key
from projects.domains import create_domain
from projects.members import create_project
from projects.models import Domain, DomainReport, DomainStatus, Event, FeedPosition, Invitation, Membership, Project
from projects.roles import Role, scopes_of
from projects.scopes import SCOPES, Scope
from projects.setup import ensure_instance
from queues.models import Queue
from relay_project.db import partitions
from relay_project.db.ids import id_floor, uuid_of
from relay_project.db.keyring import ring
from relay_project.mail.dkim import generate_rsa_key
from relay_project.mail.unsubscribe import Subscription, make_token
from relay_project.net.smtp_transaction import SENT_ALONG
from sending.content import raw_message
from sending.models import (
    Attempt,
    AttemptRecipient,
    Content,
    Phase,
    ReaderPosition,
    ReceivedMail,
    ReceivingDomain,
    Recipient,
    SandboxMessage,
    Send,
    Signature,
    Suppression,
    Waiting,
)
from sending.unsubscribe import PATH, PURPOSE
from tests.browser.seed_inbound import receive
from tests.browser.seed_webhooks import tell
from tests.sending.rollup import count_up
from webhooks.fan_out import READER
from webhooks.mailbox.deposit import deposit, new_item
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models import Mailbox, Webhook, WebhookDelivery
from webhooks.models.mailbox import TokenKind

INVITATION_TOKEN = "an-invitation-of-the-seed"
PASSWORD = "correct horse battery staple"
SUBJECTS = (
    ("Your receipt for order {n}", "receipts@shop.example"),
    ("Your parcel {n} is on its way", "post@shop.example"),
    ("Sign-in code 4{n}", "security@shop.example"),
    ("Invoice 2026-{n}", "billing@shop.example"),
    ("Please confirm your e-mail address", "security@shop.example"),
)
PEOPLE = (
    "anna.lindqvist",
    "b.okafor",
    "chiara",
    "d.nguyen",
    "emil",
    "fatima.haddad",
    "george",
    "h.sato",
    "ines",
    "jonas",
)
HOSTS = {
    "example.net": ("mx1.example.net", "mx2.example.net"),
    "post.example.org": ("mx.post.example.org",),
    "university.example": ("mail-in.university.example",),
}
HTML = (Path(__file__).parent / "receipt.html").read_text()
TEXT = "Thank you for your order\n\nYour order 4711 is paid and will leave our warehouse today.\n\nhttps://shop.example/orders/4711\n"


@dataclass(frozen=True)
class Seeded:
    """What tests look for."""

    alice: User
    bob: User
    charlie: User
    sam: User
    shop: Project
    empty: Project
    domain: Domain
    pending: Domain
    send: Send
    given_up: Send
    message: SandboxMessage
    webhook: Webhook
    mailbox: Mailbox
    member: Membership
    suppression: Suppression
    unsubscribe: str  # the path of a link
    receiving: ReceivingDomain
    received: ReceivedMail
    delivery: WebhookDelivery


def seed(now: datetime, sends: int = 60, days: int = 30) -> Seeded:
    """Write everything and name the rows that matter. Partitions of past days take time: `days` says how many."""
    _make_past_partitions(now, days)
    random_numbers = random.Random(2026)
    alice, bob, charlie, sam = _people()
    ensure_instance()
    transactional = Queue.objects.get_or_create(name="transactional", defaults={"is_default": True})[0]
    Queue.objects.get_or_create(name="distributional", defaults={"is_default": True})
    source = _source_ip(transactional)
    shop = create_project(alice, "Paper & Pencil shop", "transactional").project
    empty = create_project(alice, "Monthly letter", "distributional").project
    member = Membership.objects.create(
        project=shop, user=bob, scopes=[Scope.PROJECT_READ, Scope.SENDS_READ, Scope.DOMAINS_READ, Scope.ANALYTICS_READ]
    )
    domain, pending = _domains(shop, now)
    _reports(now)
    create_key(shop, "Shop, production", [Scope.SENDS_SEND, Scope.SENDS_READ], ["192.0.2.16", "2001:db8:7::/48"])
    create_key(shop, "Monitoring", [Scope.SENDS_READ, Scope.ANALYTICS_READ])
    key, _ = create_key(shop, "Old importer", list(SCOPES), ["198.51.100.0/24"])
    key.is_enabled = False
    key.save()
    webhook, delivery = tell(shop, now)
    mailbox = _mailbox(shop, now)
    Invitation.objects.create(
        project=shop,
        email="dora@shop.example",
        scopes=scopes_of(Role.SUPPORT),
        token_hash=hashlib.sha256(INVITATION_TOKEN.encode()).hexdigest(),
        invited_by=alice,
        invited_by_label=str(alice),
        sent_at=now - timedelta(hours=3),
        expires_at=now + timedelta(days=6),
    )
    maker = Maker(shop, domain, transactional, source, now)
    for number in range(sends):
        maker.plain_send(number, random_numbers, days)
    send = maker.telling_send()
    given_up = maker.given_up_send()
    message = maker.sandbox_mail()
    _count()
    suppression = _suppressions(shop, now)
    link = Subscription(shop.pk, send.pk, send.pk, "anna.lindqvist@example.net", "shop.example", "weekly letter")
    return Seeded(
        alice, bob, charlie, sam, shop, empty, domain, pending, send, given_up, message, webhook, mailbox, member,
        suppression, PATH + make_token(link, ring(PURPOSE)), *receive(shop), delivery,
    )  # fmt: skip


def _mailbox(shop: Project, now: datetime) -> Mailbox:
    """With tokens and some deposits."""
    mailbox = create_mailbox(
        shop,
        "did:web:warehouse.shop.example",
        MailboxChange("The warehouse, behind its firewall", ["send.recipient.bounced"]),
    )
    create_token(mailbox, TokenKind.RECEIVE, "warehouse")
    create_token(mailbox, TokenKind.DEPOSIT, "till")
    deposit(mailbox.pk, "till", [new_item({"order": number}) for number in range(3)], now)
    return mailbox


def _suppressions(shop: Project, now: datetime) -> Suppression:
    """One of each kind; the last one is returned."""
    everywhere = {"project": shop}
    in_list = {"list_project": shop, "list": "weekly letter"}
    rows = (
        ("no.longer.here@example.net", "bounce", "550 5.1.1 No such mailbox here", everywhere, None),
        ("jonas@post.example.org", "complaint", None, everywhere, None),
        ("chiara@example.net", "unsubscribe", "Unsubscribed by the link in a mail.", in_list, None),
        ("emil@university.example", "manual", "On leave, asked for a pause", everywhere, now + timedelta(days=40)),
    )
    made = [
        Suppression.objects.create(email=email, reason=reason, description=text, expires_at=end, **scope)
        for email, reason, text, scope, end in rows
    ]
    return made[-1]


def _count() -> None:
    """Have the statistics count it all: each recipient's state is told by an event, soon after its mail's accept."""
    tried = dict(AttemptRecipient.objects.values_list("recipient_id", "attempt_id"))
    told = [
        Event(
            pk=recipient.pk + 100 + (recipient.pk % 97 << 16),
            project_id=recipient.project_id,
            kind=f"send.recipient.{recipient.status}",
            subject_kind="send",
            subject_id=recipient.send_id,
            payload={"recipient_id": recipient.pk, "attempt_id": tried.get(recipient.pk)},
        )
        for recipient in Recipient.objects.exclude(status="queued").order_by("pk")
    ]
    Event.objects.bulk_create(told)
    FeedPosition.objects.bulk_create(FeedPosition(event_id=event.pk) for event in told)
    count_up()
    last = FeedPosition.objects.latest("position").position
    ReaderPosition.objects.create(name=READER, position=last)  # run_webhooks has seen all of it


def _make_past_partitions(now: datetime, past: int) -> None:
    """The past days for what the plain sends are made of, yesterday for the rest."""
    month = ("projects_event", "sending_content", "sending_recipient", "sending_searchtext", "sending_send")
    with connection.cursor() as cursor:
        there = partitions.existing_partitions(cursor)
        for table, column in partitions.partitioned_tables(cursor):
            for days in range(past + 2 if table in month else 2):
                day = (now - timedelta(days=days)).date()
                if partitions.partition_name(table, day) not in there:
                    partitions.make_partition(cursor, table, column, partitions.Day.of(day))


def _people() -> tuple[User, User, User, User]:
    people = []
    for name, login, is_staff in (
        ("Alice Andersson", "alice@shop.example", False),
        ("Bob Baker", "bob@shop.example", False),
        ("Charlie Clark", "charlie@elsewhere.example", False),
        ("Sam Sobel", "sam@relay.test", True),
    ):
        person = User(name=name, login=login, email=login, is_staff=is_staff, password=_hashed_password())
        person.save()
        people.append(person)
    return people[0], people[1], people[2], people[3]


@cache
def _hashed_password() -> str:
    return make_password(PASSWORD)  # a second of work, once a run


@cache
def _private_key() -> str:
    return generate_rsa_key()


def _source_ip(queue: Queue) -> SourceIp:
    server = Server.objects.create(hostname="relay-1")
    return SourceIp.objects.create(server=server, queue=queue, address="203.0.113.25")


def _reports(now: datetime) -> None:
    """What receivers say of shop.example."""
    policy = {"domain": "shop.example", "p": "none", "sp": "", "pct": 100, "adkim": "r", "aspf": "r", "testing": False}
    at = now - timedelta(days=2)
    for number, (organisation, total, failed) in enumerate(
        (("google.com", 1840, 12), ("Yahoo", 310, 3), ("Enterprise Outlook", 95, 0))
    ):
        sources = [
            {
                "address": "192.0.2.7",
                "is_ours": True,
                "messages": total - failed,
                "aligned": total - failed,
                "dkim": total - failed,
                "spf": 0,
                "signers": ["shop.example"],
                "reasons": [],
            },
            {
                "address": f"2001:db8:77::{number + 1}",
                "is_ours": False,
                "messages": failed,
                "aligned": 0,
                "dkim": 0,
                "spf": 0,
                "signers": ["lists.example"],
                "reasons": ["mailing_list"],
            },
        ]
        good = total - failed
        DomainReport.objects.create(
            kind="dmarc",
            domain="shop.example",
            organisation=organisation,
            report_id=str(number),
            begins_at=at,
            ends_at=at,
            total=total,
            passed=good,
            dkim_passed=good,
            rejected=failed // 3,
            ours=good,
            ours_passed=good,
            ours_dkim=good,
            policy=policy,
            details=sources,
        )
    DomainReport.objects.create(
        kind="tls", domain="shop.example", organisation="Google Inc.", report_id="t", begins_at=at, ends_at=at, total=212,
        passed=205, policy={"types": ["sts"]},
        details=[{"type": "certificate-host-mismatch", "mx": "mx2.shop.example", "sessions": 7, "reason": "no name matches"}],
    )  # fmt: skip


def _domains(shop: Project, now: datetime) -> tuple[Domain, Domain]:
    domain = create_domain(shop, "shop.example", private_key_pem=_private_key())
    pending = create_domain(shop, "letters.shop.example", "march", _private_key())
    warning = create_domain(shop, "pencil.example", private_key_pem=_private_key())
    hour = timedelta(hours=1)
    Domain.objects.filter(pk=domain.pk).update(status=DomainStatus.ACTIVE, dkim_checked_at=now - 5 * hour)
    missing = {"dkim_error_message": "No TXT records found for DKIM host", "dkim_checked_at": now - hour / 20}
    Domain.objects.filter(pk=pending.pk).update(**missing)
    Domain.objects.filter(pk=warning.pk).update(status=DomainStatus.WARNING, **missing)
    domain.refresh_from_db()
    return domain, pending


@dataclass
class Maker:
    """Writes sends of one project."""

    project: Project
    domain: Domain
    queue: Queue
    source: SourceIp
    now: datetime
    taken: int = 0

    def id_at(self, at: datetime) -> int:
        """A fresh id for that moment."""
        self.taken += 1
        return id_floor(at) + self.taken % 4096

    def send(self, at: datetime, subject: str, from_address: str, from_name: str | None = None) -> Send:
        """A send with its content."""
        content = Content.objects.create(
            id=self.id_at(at),
            project_id=self.project.pk,
            body_html=HTML,
            body_text=TEXT,
            headers=[["Reply-To", "help@shop.example"]],
        )
        identifier = self.id_at(at)
        return Send.objects.create(
            id=identifier,
            uuid=uuid_of(identifier, 2**61 + identifier),
            project=self.project,
            queue=self.queue,
            domain=self.domain,
            content=content,
            from_address=from_address,
            from_name=from_name,
            subject=subject,
            size_bytes=3_214,
            message_date=at.replace(microsecond=0),
            writer_version=1,
            mailer="Relay v0.1.0",
            instance_domain="relay.test",
        )

    def recipient(
        self, send: Send, at: datetime, position: int, address: str, status: str, kind: str = "to"
    ) -> Recipient:
        """One of its recipients."""
        return Recipient.objects.create(
            id=self.id_at(at),
            send=send,
            project_id=self.project.pk,
            position=position,
            type=kind,
            address=address,
            status=status,
            try_count=1,
        )

    def waiting(self, send: Send, recipient: Recipient, **row: Any) -> Waiting:
        """A row of the ledger."""
        values = {"due_at": self.now, "phase": Phase.DUE, "tries": 0, **row}
        return Waiting.objects.create(
            recipient_id=recipient.pk,
            send_id=send.pk,
            project_id=self.project.pk,
            queue_id=self.queue.pk,
            lane=self.queue.pk,
            domain=recipient.address.rpartition("@")[2],
            size_bytes=send.size_bytes,
            **values,
        )

    def plain_send(self, number: int, numbers: random.Random, days: int) -> None:
        """One of many, the later the more."""
        age = (
            timedelta(days=(days - 0.5) * (numbers.random() ** 1.6))
            if number > 8
            else timedelta(minutes=7 * number + 3)
        )
        at = self.now - age
        subject, from_address = SUBJECTS[number % len(SUBJECTS)]
        send = self.send(at, subject.format(n=4711 + number), from_address)
        for position in range(numbers.choice((1, 1, 1, 2, 4))):
            status = numbers.choices(
                ("accepted", "bounced", "suppressed", "failed", "complained"), (94, 2.5, 2, 0.8, 0.7)
            )[0]
            if number < 3 and position == 0:
                status = ("queued", "deferred", "accepted")[number]
            address = f"{PEOPLE[(number + position) % len(PEOPLE)]}@{list(HOSTS)[number % len(HOSTS)]}"
            recipient = self.recipient(send, at, position, address, status)
            if status == "queued":
                self.waiting(send, recipient)
            elif status == "deferred":
                self._hold(send, recipient)

    def _hold(self, send: Send, recipient: Recipient) -> None:
        site, _ = HeldSite.objects.get_or_create(
            queue=self.queue,
            source_ip=self.source,
            site="post.example.org",
            defaults={"reason": "at most 20 a minute from 203.0.113.25", "next_slot": self.now + timedelta(seconds=48)},
        )
        self.waiting(send, recipient, phase=Phase.HELD, held_site_id=site.pk, tries=1)

    def telling_send(self) -> Send:
        """One whose journey has everything: greylisting, a bounce, a retry that worked and one that waits."""
        at = self.now - timedelta(minutes=16, seconds=4)
        send = self.send(at, "Your receipt for order 4711", "receipts@shop.example", "Paper & Pencil")
        anna = self.recipient(send, at, 0, "anna.lindqvist@example.net", "accepted")
        gone = self.recipient(send, at, 1, "no.longer.here@example.net", "bounced", "cc")
        slow = self.recipient(send, at, 2, "registrar@university.example", "deferred", "cc")
        quiet = self.recipient(send, at, 3, "archive@old-customer.example", "suppressed", "bcc")
        assert quiet.pk
        template = b"DKIM-Signature: v=1; a=rsa-sha256; d=%s; s=%s; b=a\r\n"
        lines = template % (b"shop.example", b"march") + template % (b"relay.test", b"default")
        Signature.objects.create(send=send, header_lines=lines)
        second = timedelta(seconds=1)
        first = self.attempt(send, at + second / 20, "example.net", 1, "deferred", "mx1.example.net", GREYLISTED, 231)
        self.result(
            first, send, anna, "deferred", 451, "4.7.1", "Greylisted, please try again later", "temporary", "greylisted"
        )
        self.result(
            first,
            send,
            gone,
            "bounced",
            550,
            "5.1.1",
            "No such mailbox here",
            "recipient",
            "mailbox-unknown",
            suppressed=True,
        )
        failed = self.attempt(
            send,
            at + second / 15,
            "university.example",
            1,
            "deferred",
            None,
            TIMEOUT,
            30_004,
            error="no connection to 198.51.100.77 port 25 within 30 s",
        )
        self.result(failed, send, slow, "deferred", 0, None, "", "infrastructure", "network-connect")
        again = self.attempt(
            send, at + timedelta(minutes=15), "example.net", 2, "accepted", "mx1.example.net", ACCEPTED, 184, tls=True
        )
        self.result(again, send, anna, "accepted", 250, "2.0.0", "Ok: queued as 4bXzT2", "accepted", "accepted")
        self.waiting(
            send,
            slow,
            phase=Phase.LATER,
            due_at=self.now + timedelta(minutes=44, seconds=12),
            tries=1,
            source_ip_id=self.source.pk,
        )
        return send

    def given_up_send(self) -> Send:
        """One that two of its three recipients never got."""
        at = self.now - timedelta(hours=32)
        send = self.send(at, "The catalogue for spring", "post@shop.example")
        self.recipient(send, at, 0, "anna.lindqvist@example.net", "accepted")
        people = [self.recipient(send, at, n, f"{PEOPLE[n]}@university.example", "failed") for n in (1, 2)]
        last = self.attempt(
            send,
            self.now - timedelta(minutes=55),
            "university.example",
            7,
            "deferred",
            None,
            TIMEOUT,
            30_003,
            error="no connection to 198.51.100.77 port 25 within 30 s",
        )
        for recipient in people:
            self.result(last, send, recipient, "failed", 0, None, "", "infrastructure", "network-connect")
        return send

    def attempt(
        self,
        send: Send,
        at: datetime,
        domain: str,
        number: int,
        status: str,
        host: str | None,
        steps: list[tuple[Any, ...]],
        duration: int,
        error: str = "",
        tls: bool = False,
    ) -> Attempt:
        """A try and its conversation."""
        hosts = list(HOSTS[domain])
        names = ("name", "duration_ms", "command", "reply_code", "reply_text", "note")
        conversation = {
            "start_time": at.isoformat(),
            "duration_ms": duration,
            "network_error": error,
            "steps": [dict(zip(names, step, strict=False)) for step in steps],
        }
        session = {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "verified": False} if tls else None
        return Attempt.objects.create(
            id=self.id_at(at),
            send_id=send.pk,
            project_id=self.project.pk,
            queue_id=self.queue.pk,
            source_ip_id=self.source.pk,
            status=status,
            try_count=number,
            domain=domain,
            site=domain,
            resolved_mx_hosts=hosts,
            responded_mx_host=host,
            smtp_conversations={hosts[0]: conversation},
            tls=session,
            network_error=error,
            duration_ms=duration,
        )

    def result(
        self,
        attempt: Attempt,
        send: Send,
        recipient: Recipient,
        status: str,
        code: int,
        enhanced: str | None,
        text: str,
        category: str,
        rule: str,
        suppressed: bool = False,
    ) -> None:
        """What the attempt brought for one recipient."""
        AttemptRecipient.objects.create(
            id=self.id_at(self.now),
            attempt_id=attempt.pk,
            send_id=send.pk,
            recipient_id=recipient.pk,
            recipient_status=status,
            smtp_code=code,
            smtp_enhanced_code=enhanced,
            smtp_message=text,
            category=category,
            rule=rule,
            is_suppressed=suppressed,
        )

    def sandbox_mail(self) -> SandboxMessage:
        """Mails in the inbox, the last one a full one."""
        last = None
        for number in range(4):
            at = self.now - timedelta(minutes=3 + 20 * (4 - number))
            send = self.send(at, f"Trying things out, {number + 1}", "receipts@shop.example", "Paper & Pencil")
            self.recipient(send, at, 0, "accept@simulator.relay.test", "accepted")
            results = [{"domain": "shop.example", "selector": "march", "valid": True, "error": ""}]
            results.append(
                {
                    "domain": "relay.test",
                    "selector": "default",
                    "valid": number != 1,
                    "error": "body hash mismatch" if number == 1 else "",
                }
            )
            last = SandboxMessage.objects.create(
                project_id=self.project.pk,
                send_id=send.pk,
                reverse_path="bounce+4k2ajq7m@relay.test",
                recipients=["accept@simulator.relay.test"],
                helo_name="smtp1.relay.test",
                peer="127.0.0.2",
                subject=send.subject or "",
                from_header='"Paper & Pencil" <receipts@shop.example>',
                data=raw_message(send) or b"",
                dkim_results=results,
            )
            SandboxMessage.objects.filter(pk=last.pk).update(received_at=at + timedelta(milliseconds=210))
        assert last is not None
        last.refresh_from_db()
        return last


DIAL = ("dial", 21, "connect 198.51.100.25 port 25 from 203.0.113.25", 220, "mx1.example.net ESMTP")
HELLO = (
    "hello",
    19,
    "EHLO smtp1.relay.test",
    250,
    "mx1.example.net\nPIPELINING\nSIZE 52428800\nSTARTTLS\n8BITMIME",
)
MAIL = ("mail", 22, "MAIL FROM:<bounce+4k2ajq7mzt3c5x2d@relay.test> SIZE=3214", 250, "2.1.0 Ok")
GREYLISTED = [
    DIAL,
    HELLO,
    MAIL,
    ("rcpt", 38, "RCPT TO:<anna.lindqvist@example.net>", 451, "4.7.1 Greylisted, please try again later"),
    ("rcpt", 39, "RCPT TO:<no.longer.here@example.net>", 550, "5.1.1 No such mailbox here"),
    ("data", 40, "DATA", 554, "5.5.1 Error: no valid recipients", SENT_ALONG),
]
TIMEOUT = [("dial", 30_000, "connect 198.51.100.77 port 25 from 203.0.113.25", 0, "")]
ACCEPTED = [
    DIAL,
    HELLO,
    ("starttls", 41, "STARTTLS", 220, "2.0.0 Ready to start TLS"),
    ("hello", 18, "EHLO smtp1.relay.test", 250, "mx1.example.net\nPIPELINING\nSIZE 52428800\n8BITMIME"),
    MAIL,
    ("rcpt", 24, "RCPT TO:<anna.lindqvist@example.net>", 250, "2.1.5 Ok"),
    ("data", 25, "DATA", 354, "End data with <CR><LF>.<CR><LF>"),
    ("data_close", 57, "[message of 4106 bytes]", 250, "2.0.0 Ok: queued as 4bXzT2"),
]
