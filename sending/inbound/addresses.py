"""Which addresses take mail for the installation itself: signed return paths, and the names that reports are sent to.

A return path, be it a token or the SRS address of a mail that was passed on, is ours by its MAC alone, at whatever domain it
stands: the instance's, a domain's own return path, or one that was either when the mail left. The names stand at the instance
domain, and those that RFC 2142 and RFC 5321 §4.5.1 ask for also at the return paths whose mail exchanger we are.
"""

from datetime import UTC, datetime
from enum import StrEnum

from django.conf import settings

from projects.domain_reports import DMARC_ADDRESS, TLS_ADDRESS
from projects.models import Domain
from relay_project.db.keyring import ring
from relay_project.db.lookup import Remembered
from relay_project.mail import srs
from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.srs import ExpiredSrs, ForgedSrs, NotSrs, Rewritten
from relay_project.mail.verp import ForgedToken, NotAToken, Token, read_reverse_path
from relay_project.metrics import Counter

POSTMASTER, ABUSE = "postmaster", "abuse"
FEEDBACK_LOOP = "fbl"
NAMES = frozenset({POSTMASTER, ABUSE, FEEDBACK_LOOP, TLS_ADDRESS, DMARC_ADDRESS})
EVERYWHERE = frozenset({POSTMASTER, ABUSE})  # wherever mail for us may come in
PURPOSE = "return-path"  # of the keys in the ring

FORGED = Counter("relay_inbound_forged_total", "Return paths that no key of ours made.", ["where"])

_RETURN_PATHS = Remembered(Domain, "t.return_path = %s")


class Standing(StrEnum):
    """What an address of the outside is to us."""

    OURS = "ours"  # reports are sent there
    WAY_BACK = "way-back"  # so are those about a mail that was passed on, and nothing else may be
    EXPIRED = "expired"  # such an address, too old
    FORGED = "forged"  # it has the shape of a signed return path, and no key of ours made it
    UNKNOWN = "unknown"  # at a domain of ours, and nobody has it
    FOREIGN = "foreign"  # somebody else's


def standing_of(address: str) -> Standing:
    """What the address is to us. Asks the database for domains other than the instance's."""
    return of_path(address) or _of_name(address)


def of_path(address: str) -> Standing | None:
    """What a return path is, which takes no database; None for other addresses."""
    try:
        token_of(address)
    except ForgedToken:
        return Standing.FORGED
    except NotAToken:
        return _of_srs(address)
    return Standing.OURS


def token_of(address: str) -> Token:
    """What a return path names, by any key of the ring; raises NotAToken and ForgedToken."""
    return read_reverse_path(address, ring(PURPOSE))


def rewritten(address: str) -> Rewritten:
    """What the SRS address of a mail that was passed on names; raises NotSrs, ForgedSrs and ExpiredSrs."""
    return srs.read(address, ring(PURPOSE), datetime.now(UTC).date())


def _of_srs(address: str) -> Standing | None:
    try:
        rewritten(address)
    except NotSrs:
        return None
    except ForgedSrs:
        return Standing.FORGED
    except ExpiredSrs:
        return Standing.EXPIRED
    return Standing.WAY_BACK


def _of_name(address: str) -> Standing:
    local, at, domain = address.rpartition("@")
    if not at:  # RFC 5321 §4.1.1.3: the one address that needs no domain
        return Standing.OURS if domain.lower() == POSTMASTER else Standing.FOREIGN
    try:
        domain = normalise_domain(domain)
    except InvalidDomain:
        return Standing.FOREIGN
    if domain == settings.INSTANCE_DOMAIN:
        return Standing.OURS if local.lower() in NAMES else Standing.UNKNOWN
    if _RETURN_PATHS.first(domain) is None:
        return Standing.FOREIGN
    return Standing.OURS if local.lower() in EVERYWHERE else Standing.UNKNOWN
