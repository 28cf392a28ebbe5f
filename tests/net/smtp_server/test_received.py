"""The Received: field."""

from datetime import UTC, datetime

import pytest

from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Service
from relay_project.net.smtp_server.received import protocol, received_header

NOW = datetime(2026, 11, 28, 4, 0, tzinfo=UTC)


def mail(
    helo: str = "client.test", recipients=("b@y.test",), login=None, smtputf8=False, address="192.0.2.7", **peer
) -> Mail:
    who = Peer(address, 4321, "192.0.2.25", 25, Service.MX, helo, **peer)
    return Mail(who, login, "a@x.test", tuple(map(RcptTo, recipients)), b"", smtputf8)


def test_the_field_says_who_how_and_when() -> None:
    field = received_header(mail(tls="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"), "mx.test", NOW)
    assert field == (
        b"Received: from client.test ([192.0.2.7])\r\n\tby mx.test with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <b@y.test>;\r\n\tSat, 28 Nov 2026 04:00:00 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (mail(esmtp=False), "SMTP"),
        (mail(), "ESMTP"),
        (mail(tls="TLSv1.2"), "ESMTPS"),
        (mail(tls="TLSv1.2", login="x"), "ESMTPSA"),
        (mail(tls="TLSv1.2", login="x", smtputf8=True), "UTF8SMTPSA"),
    ],
)
def test_the_word_of_the_protocol(given, word) -> None:
    """RFC 3848, RFC 6531 §4.3."""
    assert protocol(given) == word


@pytest.mark.parametrize("helo", ["(comment", "a\r\nX-Evil: 1", "<b>", "ä.test", ""])
def test_what_a_client_calls_itself_breaks_nothing(helo) -> None:
    assert received_header(mail(helo=helo), "mx.test", NOW).startswith(b"Received: from unknown ([192.0.2.7])\r\n")


@pytest.mark.parametrize("recipients", [("b@y.test", "c@y.test"), ("b@y.test>\r\nX: 1",), ('"a b"@y.test',)])
def test_several_recipients_or_strange_ones_are_not_named(recipients) -> None:
    """RFC 5321 §7.2."""
    assert b"for" not in received_header(mail(recipients=recipients), "mx.test", NOW)


def test_an_ipv6_address_is_written_as_a_literal() -> None:
    assert b"([IPv6:2001:db8::7])" in received_header(mail(address="2001:db8::7"), "mx.test", NOW)
