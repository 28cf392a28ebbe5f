"""Mails that come back, one of each kind, as material for the noise that the parsers of reports are given."""

import base64
import gzip
import io
import zipfile
from collections.abc import Callable

TOKEN = b"b.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@relay.test"
RETURNED = (
    b"Return-Path: <" + TOKEN + b">\nReceived: from relay.test by mx.test; Fri, 2 Jan 2026 03:04:05 +0000\n"
    b"From: =?utf-8?q?J=C3=BCrg?= <a@shop.test>\nTo: bob@example.test\nMessage-ID: <1@shop.test>\nSubject: x\n\ntext\n"
)
POSTFIX = (
    b'From: MAILER-DAEMON@mx.test\nTo: %s\nContent-Type: multipart/report; report-type=delivery-status;\n\tboundary="b"\n'
    b"Auto-Submitted: auto-replied\nSubject: Undelivered Mail Returned to Sender\n\n--b\nContent-Type: text/plain\n\n"
    b"<bob@example.test>: host mx.test[198.51.100.7] said: 550 5.1.1\n    <bob@example.test>: User unknown\n\n"
    b"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.test\nArrival-Date: Fri, 2 Jan 2026\n\n"
    b"Final-Recipient: rfc822; bob@example.test\nOriginal-Recipient: rfc822;bob@example.test\nAction: failed\n"
    b"Status: 5.1.1 (unknown)\nDiagnostic-Code: smtp; 550-5.1.1 no\n 550 such user\n\n"
    b"Final-Recipient: utf-8; j\xc3\xbcrg\\x{40}@example.test\nAction: delayed\nStatus: 4.2.2\n\n"
    b"--b\nContent-Type: message/rfc822\n\n%s\n--b--\n"
) % (TOKEN, RETURNED)
QMAIL = (
    b"From: MAILER-DAEMON@mx.test\nSubject: failure notice\n\nHi. This is the qmail-send program at mx.test.\n"
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n\n<bob@example.test>:\n"
    b"198.51.100.7 does not like recipient.\nRemote host said: 550 5.1.1 User unknown\nGiving up on 198.51.100.7.\n\n"
    b"--- Below this line is a copy of the message.\n\n%s"
) % RETURNED
EXCHANGE = (
    b"From: postmaster@mx.test\nSubject: Undeliverable: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=windows-1252\n"
    b"Content-Transfer-Encoding: quoted-printable\n\n<html><head><style>p {color:red}</style></head><body><!-- x -->"
    b'<p><b>Your message to <a href=3D"mailto:bob@example.test">bob@example.test</a> couldn=92t be delivered.</b></p>\n'
    b"<table><tr><td>Remote Server returned &#39;550 5.1.10 RESOLVER.ADR.RecipientNotFound&#39;</td></tr></table></body>\n"
)
VACATION = (
    b"From: bob@example.test\nSubject: =?iso-8859-1?b?QXV0bzogSWNoIGJpbiB3ZWc=?=\nAuto-Submitted: auto-replied\n"
    b"Precedence: bulk\nX-Autoreply: yes\n\nI am away until Monday.\n"
)
ARF = (
    b'From: fbl@isp.test\nContent-Type: multipart/report; report-type=feedback-report; boundary="f"\n\n--f\n\nA complaint.\n\n'
    b"--f\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: isp/1\nVersion: 1\n"
    b"Original-Mail-From: <%s>\nOriginal-Rcpt-To: <bob@example.test>\nArrival-Date: Fri, 2 Jan 2026 03:04:05 +0000\n"
    b"Source-IP: 192.0.2.7\nReported-Domain: shop.test\n\n--f\nContent-Type: text/rfc822-headers\n\n%s\n--f--\n"
) % (TOKEN, RETURNED)
TLS_JSON = (
    b'{"organization-name":"isp","date-range":{"start-datetime":"2026-01-01T00:00:00Z","end-datetime":"2026-01-01T23:59:59Z"}'
    b',"contact-info":"a@isp.test","report-id":"1","policies":[{"policy":{"policy-type":"sts","policy-string":["v: STSv1"]'
    b',"policy-domain":"shop.test","mx-host":["*.shop.test"]},"summary":{"total-successful-session-count":5326,'
    b'"total-failure-session-count":303},"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":'
    b'"2001:db8::1","receiving-mx-hostname":"mx.shop.test","failed-session-count":100}]}]}'
)
DMARC_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<feedback><report_metadata><org_name>isp</org_name><email>a@isp.test</email>'
    b"<report_id>1</report_id><date_range><begin>1794787200</begin><end>1794873599</end></date_range></report_metadata>"
    b"<policy_published><domain>shop.test</domain><adkim>r</adkim><p>none</p><pct>100</pct></policy_published>"
    b"<record><row><source_ip>192.0.2.7</source_ip><count>2</count><policy_evaluated><disposition>none</disposition>"
    b"<dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>shop.test</header_from></identifiers>"
    b"<auth_results><dkim><domain>shop.test</domain><result>pass</result></dkim><spf><domain>x.test</domain></spf>"
    b"</auth_results></record></feedback>"
)
ENTITIES = DMARC_XML.replace(
    b"<feedback>",
    b'<!DOCTYPE feedback [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>&b;&x;',
)
MESSAGES = (POSTFIX, QMAIL, EXCHANGE, VACATION, ARF)
FILES = (TLS_JSON, DMARC_XML, ENTITIES)
REPORTS = (b"multipart/mixed", b"multipart/report; report-type=tlsrpt")


def zipped(octets: bytes) -> bytes:
    """An archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("isp.test!shop.test!1794787200!1794873599.xml", octets)
    return file.getvalue()


def gzipped(octets: bytes) -> bytes:
    """The same octets in every run."""
    return gzip.compress(octets, compresslevel=1, mtime=0)


PACKERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"application/zip", zipped),
    (b"application/gzip", gzipped),
    (b"application/tlsrpt+gzip", gzipped),
    (b"application/json", bytes),
    (b"text/xml", bytes),
)


def with_file(packed: bytes, kind: bytes, report: bytes = b"multipart/mixed") -> bytes:
    """A mail that carries a TLS or DMARC report as a file."""
    return (
        b"From: a@isp.test\nTo: dmarc@relay.test\nSubject: Report Domain: shop.test Submitter: isp.test Report-ID: 1\n"
        b'Content-Type: %s; boundary="t"\n\n--t\n\nThis is an aggregate report.\n\n'
        b"--t\nContent-Type: %s\nContent-Transfer-Encoding: base64\n\n%s--t--\n"
    ) % (report, kind, base64.encodebytes(packed))


def nested(octets: bytes, levels: int) -> bytes:
    """A mail within multiparts within multiparts."""
    for level in range(levels):
        kind = b"Content-Type: multipart/mixed; boundary=%d" % level
        octets = b"%s\n\n--%d\n%s\n--%d--\n" % (kind, level, octets, level)
    return octets
