"""Mail that the seeded project received, and where from."""

from django.utils import timezone

from projects.models import Project
from sending.inbound.routing.change import RouteChange, add_domain, add_route
from sending.models import InboundMail, ReceivedMail, ReceivingDomain, RouteAction

MAIL = (
    b"From: Anna Lindqvist <anna.lindqvist@example.net>\r\nTo: support+4711@in.shop.example\r\nSubject: Re: Your order 4711\r\n"
    b"Date: Fri, 27 Nov 2026 09:30:00 +0000\r\nMessage-ID: <a1@example.net>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
    b"It came broken, see the picture.\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>It came <b>broken</b>.</p><img src=\"https://tracker.example/p.png\">\r\n"
    b"--b\r\nContent-Type: image/jpeg; name=broken.jpg\r\nContent-Disposition: attachment; filename=broken.jpg\r\n\r\nJPEG\r\n"
    b"--b--\r\n"
)  # fmt: skip


def receive(shop: Project) -> tuple[ReceivingDomain, ReceivedMail]:
    """A domain with four routes, and three mails; the newest is returned."""
    domain = add_domain(shop, "in.shop.example")
    domain.mx_checked_at, domain.mx_error_message = timezone.now(), "in.shop.example has no MX record."
    domain.save()
    wanted = (
        RouteChange("support+*@in.shop.example", 10, description="Replies to tickets"),
        RouteChange(
            "team@in.shop.example",
            15,
            RouteAction.FORWARD,
            "The office",
            forward_to=("office@shop.example", "someone@very-long-domain-name-of-a-university.example"),
        ),
        RouteChange("no-reply@in.shop.example", 20, RouteAction.REJECT),
        RouteChange("*@in.shop.example", 100, RouteAction.DROP, is_enabled=False),
    )
    route, *_ = [add_route(shop, one) for one in wanted]
    senders = (
        (
            "Question about paper",
            "someone@very-long-domain-name-of-a-university.example",
            "fail",
            ["spf-fail", "no-tls"],
        ),
        ("", "", "", []),
        ("Re: Your order 4711", "anna.lindqvist@example.net", "pass", ["no-reverse-dns"]),
    )
    for subject, sender, dmarc, hints in senders:
        mail = InboundMail.objects.create(
            peer="192.0.2.25", helo_name="mx.example.net", recipients=["support+4711@in.shop.example"], octets=MAIL,
            mail_from=sender, size_bytes=len(MAIL), state="handed on",
        )  # fmt: skip
        received = ReceivedMail.objects.create(
            project_id=shop.pk, mail_id=mail.pk, route_id=route.pk, recipients=mail.recipients, mail_from=sender,
            forward_to=["office@shop.example"] if subject.startswith("Question") else None,
            from_address=sender, subject=subject, size_bytes=len(MAIL), attachment_count=1, hints=hints,
            authentication={} if not dmarc else {
                "spf": {"result": dmarc, "domain": "example.net", "detail": "ip4:192.0.2.0/24"},
                "dkim": [{"result": dmarc, "domain": "example.net", "selector": "s2026", "detail": ""}],
                "dmarc": {"result": dmarc, "domain": "example.net", "policy": "quarantine"},
            },
        )  # fmt: skip
    return domain, received
