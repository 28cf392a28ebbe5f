"""The DNS records by which receivers and senders send reports about a domain here.

A domain's DMARC policy names `dmarc@`, its TLS reporting record `tls-reports@` the instance domain. The instance domain
says in turn that it takes DMARC reports about other domains (RFC 7489 §7.1); without that most receivers send none.
"""

from collections.abc import Sequence

from projects.domain_reports import DMARC_ADDRESS, TLS_ADDRESS, reporting_address
from projects.return_path import return_path_target
from relay_project.mail import tls_rpt

AUTHORISED = "v=DMARC1"  # RFC 7489 §7.1
DMARC_WHY = (
    "Gmail, Yahoo and Microsoft expect a DMARC policy. By rua= receivers report here how mail from the domain fares."
)
TLS_WHY = "Senders report here when they cannot reach the domain's mail servers by TLS."
AUTHORISED_WHY = (
    "Says that DMARC reports about other domains may be sent here (RFC 7489 §7.1). Without it most receivers send none. "
    "In place of the * there may be a record for each domain."
)


def dmarc_value() -> str:
    """The policy to begin with."""
    return f"v=DMARC1; p=none; rua={_uri(DMARC_ADDRESS)}"


def tls_value() -> str:
    """The record of a domain that has none."""
    return f"v=TLSRPTv1; rua={_uri(TLS_ADDRESS)}"


def authorising_host(domain: str = "*") -> str:
    """Where the instance domain says that reports about the domain may come here."""
    return f"{domain}._report._dmarc.{return_path_target()}"


def is_authorising(texts: Sequence[str]) -> bool:
    """Whether that is said by one of the TXT records there."""
    return any(text.strip().lower().startswith("v=dmarc1") for text in texts)


def needs_authorising(domain: str) -> bool:
    """Whether receivers ask for it: not within one organisation, which here is taken to be the last two labels."""
    return domain.split(".")[-2:] != return_path_target().split(".")[-2:]


def names_us(uris: Sequence[str], local: str) -> bool:
    """Whether one of a record's addresses is ours; a size may follow it (RFC 7489 §6.2)."""
    wanted = _uri(local).lower()
    return any(uri.lower().partition("!")[0].strip() == wanted for uri in uris)


def with_our_address(text: str, local: str) -> str:
    """A record that reports to us as well as to whom it does already."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    for at, part in enumerate(parts):
        name, sign, value = part.partition("=")
        if sign and name.strip().lower() == "rua":
            parts[at] = f"rua={value.strip()},{_uri(local)}" if value.strip() else f"rua={_uri(local)}"
            return "; ".join(parts)
    return "; ".join([*parts, f"rua={_uri(local)}"])


def judge_tls(texts: Sequence[str]) -> tuple[str, str, str]:
    """(state, advice, what to publish instead) of what stands at `_smtp._tls`; raises InvalidRecord."""
    text = tls_rpt.find_record(texts)
    if text is None:
        return "missing", "", ""
    if names_us(tls_rpt.reports_to(text), TLS_ADDRESS):
        return "ok", "", ""
    return (
        "ok",
        "Reports go elsewhere. With our address as well they are shown here.",
        with_our_address(text, TLS_ADDRESS),
    )


def _uri(local: str) -> str:
    return f"mailto:{reporting_address(local)}"
