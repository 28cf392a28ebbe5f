"""Mailboxes and domains: one spelling for each, so that equal addresses compare equal."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

MAX_ADDRESS = 254  # octets, RFC 5321 §4.5.3.1.3 (a path of 256 with its angle brackets)
MAX_LOCAL_PART = 64  # octets, RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 253  # octets in presentation form, RFC 1035 §2.3.4 (255 on the wire)
MAX_LABEL = 63  # octets, RFC 1035 §2.3.4
CACHED_DOMAINS = 10_000  # entries of at most 253 octets; campaigns repeat the same few thousand domains

# Dot-atom of RFC 5322 §3.2.3 with the UTF-8 of RFC 6531 §3.3. Quoted local parts are refused: RFC 5321 §4.1.2 tells
# hosts not to make such mailboxes, and what nobody has nobody should be able to inject.
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u00a1-\U0010ffff]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
# What str.split() or a terminal takes for a space, a line end or an invisible mark has no place in an address.
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cs", "Cf", "Co", "Cn"})


class InvalidDomain(ValueError):
    """Not a host name that DNS could answer for."""


class InvalidAddress(ValueError):
    """Not a bare address that SMTP could carry."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox; the local part as it was written, the domain as a lower-case A-label."""

    local: str
    domain: str

    @property
    def address(self) -> str:
        """The address as it goes into RCPT TO and headers."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the next hop must offer SMTPUTF8 (RFC 6531) for this mailbox."""
        return not self.local.isascii()


@lru_cache(CACHED_DOMAINS)
def normalise_domain(text: str) -> str:
    """Give the one spelling of a domain: lower-case A-labels, without a trailing dot.

    At least two labels, letters, digits and hyphens only, the last label not all digits (RFC 1123 §2.1), U-labels
    through UTS 46 and IDNA 2008. Raises InvalidDomain.
    """
    domain = text.removesuffix(".")
    if not domain.isascii():
        domain = _to_a_labels(domain)
    domain = domain.lower()
    labels = domain.split(".")
    if len(labels) < 2 or len(domain) > MAX_DOMAIN or labels[-1].isdigit():
        raise InvalidDomain("not a full domain name")
    if not all(len(label) <= MAX_LABEL and _LABEL.fullmatch(label) for label in labels):
        raise InvalidDomain("a label of the domain is not letters, digits and hyphens")
    return domain


def _to_a_labels(domain: str) -> str:
    """Encode U-labels, or raise InvalidDomain."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidDomain("not an internationalised domain name") from error


def parse_mailbox(text: str) -> Mailbox:
    """Read a bare address: no display name, no angle brackets, no comments, no quoted local part, no address literal.

    Raises InvalidAddress. RFC 5321 §4.1.2 and §4.5.3.1, RFC 6531 §3.3.
    """
    local, at, domain_text = text.rpartition("@")
    if not at or not _is_local_part(local):
        raise InvalidAddress("not an e-mail address")
    try:
        domain = normalise_domain(domain_text)
    except InvalidDomain as error:
        raise InvalidAddress(str(error)) from error
    octets = len(local.encode())
    if octets > MAX_LOCAL_PART or octets + 1 + len(domain) > MAX_ADDRESS:
        raise InvalidAddress("longer than an address may be")
    return Mailbox(local, domain)


def _is_local_part(local: str) -> bool:
    """Whether `local` is a dot-atom without unseen characters."""
    if not _LOCAL_PART.fullmatch(local):
        return False
    return local.isascii() or not any(unicodedata.category(char) in _UNSEEN for char in local)


def suppression_key(address: str) -> str:
    """Give the key under which an address is suppressed: casefolded as a whole, its domain normalised.

    Never raises: what is no address (a report may name anything) is its own casefolded key.
    """
    local, at, domain = address.strip().rpartition("@")
    try:
        domain = normalise_domain(domain)
    except InvalidDomain:
        domain = _fold(domain)
    return f"{_fold(local)}{at}{domain}"


def _fold(text: str) -> str:
    """Casefold so that composed and decomposed spellings meet; repeated because folding may decompose again."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
