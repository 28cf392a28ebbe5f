"""Mails that carry a report as a file, as receivers send them."""

import gzip
import io
import zipfile
from email.message import EmailMessage

DMARC_SUBJECT = "Report domain: shop.test Submitter: receiver.test Report-ID: 9391651994964116463"
DMARC_FILE = "receiver.test!shop.test!1794787200!1794873599"
TLS_FILE = "company-x.test!company-y.test!1794787200!1794873599!001.json.gz"


def zipped(octets: bytes, name: str = f"{DMARC_FILE}.xml", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, octets)
    return file.getvalue()


def dmarc_mail(
    octets: bytes, kind: str = "application/zip", name: str = f"{DMARC_FILE}.zip", subject: str = DMARC_SUBJECT
) -> bytes:
    """A mail with text and the file."""
    message = EmailMessage()
    message["From"] = "noreply-dmarc@receiver.test"
    message["To"] = "dmarc@mail.relay.test"
    message["Subject"] = subject
    message.set_content("This is an aggregate report.")
    main, _, sub = kind.partition("/")
    message.add_attachment(octets, maintype=main, subtype=sub, filename=name)
    return message.as_bytes()


def tls_mail(octets: bytes, sub: str = "tlsrpt+gzip", report: bool = True) -> bytes:
    """A mail as RFC 8460 §5.3 has it, or with the file alone."""
    message = EmailMessage()
    message["From"] = "tlsrpt@company-x.test"
    message["To"] = "tls-reports@mail.relay.test"
    message["Subject"] = "Report Domain: company-y.test Submitter: company-x.test Report-ID: <5065427c>"
    if report:
        message["TLS-Report-Domain"] = "company-y.test"
        message["TLS-Report-Submitter"] = "company-x.test"
    message.set_content("This is an aggregate TLS report.")
    message.add_attachment(octets, maintype="application", subtype=sub, filename=TLS_FILE)
    if report:
        message.set_type("multipart/report")
        message.set_param("report-type", "tlsrpt")
    return message.as_bytes()


def bomb(octets: int = 200 << 20) -> bytes:
    """A gzip of zeros, a thousandth of what it says."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as packed:
        for _ in range(octets >> 20):
            packed.write(bytes(1 << 20))
    return file.getvalue()
