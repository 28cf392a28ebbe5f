"""`parse_report(octets) -> Report`: what a mail that came back says, whoever wrote it. Never raises."""

from collections.abc import Callable
from email.message import Message

from relay_project.mail.reports.auto_reply import read_auto_reply, read_challenge
from relay_project.mail.reports.delivery_status import read_delivery_status
from relay_project.mail.reports.dmarc_report import read_dmarc_report
from relay_project.mail.reports.feedback import read_feedback
from relay_project.mail.reports.message import read_message
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.prose import read_prose
from relay_project.mail.reports.tls_report import read_tls_report
from relay_project.mail.text import clean

Reader = Callable[[Message], Report | None]

# Each says what it found, or None when the mail is not of its kind. The first that finds something decides: what a machine
# marked as such goes before what is guessed from prose.
READERS: tuple[Reader, ...] = (
    read_feedback,
    read_tls_report,
    read_dmarc_report,
    read_challenge,
    read_delivery_status,
    read_auto_reply,
    read_prose,
)


def parse_report(octets: bytes) -> Report:
    """Read one mail as it came; see `read_message` for what of it is read."""
    trouble = ""
    try:
        message = read_message(octets)
    except Exception as error:  # noqa: BLE001 — hostile mail, of which the stdlib makes surprises
        return Report(ReportKind.NONE, trouble=_trouble(error))
    for reader in READERS:
        try:
            report = reader(message)
        except Exception as error:  # noqa: BLE001 — one reader's trouble does not keep the others from the mail
            trouble = trouble or _trouble(error)
            continue
        if report:
            return report
    return Report(ReportKind.NONE, trouble=trouble)


def _trouble(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}", 200)
