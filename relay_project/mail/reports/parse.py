"""`parse_report(octets) -> Report`: what a mail that came back says, whoever wrote it. Never raises."""

from collections.abc import Callable
from email.message import Message

from relay_project.mail.reports.dmarc_report import read_dmarc_report
from relay_project.mail.reports.feedback import read_feedback
from relay_project.mail.reports.message import read_message
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.tls_report import read_tls_report
from relay_project.mail.text import clean

Reader = Callable[[Message], Report | None]

# Each says what it found, or None when the mail is not of its kind. The first that finds something decides: what a machine
# marked as such goes before what is guessed from prose.
READERS: tuple[Reader, ...] = (read_feedback, read_tls_report, read_dmarc_report)


def parse_report(octets: bytes) -> Report:
    """Read one mail as it came; see `read_message` for what of it is read."""
    try:
        message = read_message(octets)
        return next((report for reader in READERS if (report := reader(message))), Report(ReportKind.NONE))
    except Exception as error:  # noqa: BLE001 — hostile mail, of which the stdlib's parsers make surprises
        return Report(ReportKind.NONE, trouble=clean(f"{type(error).__name__}: {error}", 200))
