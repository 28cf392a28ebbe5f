"""What to do about what is reported of a domain: sentences, from the digest alone."""

from dataclasses import dataclass
from enum import StrEnum

from projects.domain_digest import Digest

WELL = 0.98  # of messages: below that something is wrong that is worth looking for; forwarding breaks a few always
FEW = 20  # messages: what fewer say is chance

# RFC 8460 §4.3: what a sender met at the domain's mail servers, and what mends it.
_FAILURES = {
    "starttls-not-supported": "did not offer STARTTLS. Turn it on.",
    "certificate-host-mismatch": "showed a certificate for another name. It must name the mail server itself.",
    "certificate-expired": "showed a certificate that had expired. Renew it.",
    "certificate-not-trusted": "showed a certificate of an issuer that is not trusted, or without its chain.",
    "validation-failure": "could not be verified. The reason beside it says more.",
    "tlsa-invalid": "did not fit its TLSA record. Publish the new one before the certificate changes.",
    "dnssec-invalid": "could not be looked up: DNSSEC of the domain is broken.",
    "dane-required": "has no TLSA record that a sender insists on.",
    "sts-policy-fetch-error": "is in an MTA-STS policy that could not be fetched by HTTPS.",
    "sts-policy-invalid": "is in an MTA-STS policy that could not be read.",
    "sts-webpki-invalid": "is in an MTA-STS policy whose web server's certificate is not valid.",
}
_OTHER = "could not be reached by TLS."


class Level(StrEnum):
    """How much it matters."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence or two."""

    level: Level
    text: str


def advice_of(digest: Digest) -> list[Advice]:
    """What follows from the reports, the most urgent first."""
    if not digest.is_shown:
        return [Advice(Level.INFO, "Reports are shown once the domain is verified.")]
    found = [*_about_ours(digest), *_about_others(digest), *_about_policy(digest), *_about_tls(digest)]
    if not digest.dmarc.reports:
        found.append(
            Advice(Level.INFO, "No receiver has reported yet. The DMARC record above says where to send reports to.")
        )
    order = list(reversed(Level))
    return sorted(found, key=lambda one: order.index(one.level))


def failure_advice(result_type: str) -> str:
    """What a kind of TLS failure says of the mail server that it was met at."""
    return f"It {_FAILURES.get(result_type, _OTHER)}"


def _about_ours(digest: Digest) -> list[Advice]:
    """Of mail that left from here."""
    sums = digest.dmarc
    if sums.ours < FEW:
        return []
    found = []
    if sums.ours_passed < WELL * sums.ours:
        failed = sums.ours - sums.ours_passed
        found.append(
            Advice(
                Level.WARNING,
                f"{failed:,} of {sums.ours:,} messages that left from here did not pass DMARC. Check that the DKIM record "
                "above is found.",
            )
        )
    elif sums.ours_dkim < WELL * sums.ours:
        found.append(
            Advice(
                Level.WARNING,
                f"Only {_share(sums.ours_dkim, sums.ours)} of the mail from here passed by DKIM. Check its record.",
            )
        )
    else:
        found.append(
            Advice(Level.OK, f"{_share(sums.ours_passed, sums.ours)} of the mail that left from here passed DMARC.")
        )
    if not digest.has_return_path and sums.ours_spf < WELL * sums.ours:
        found.append(
            Advice(Level.INFO, "SPF is not aligned: with a return path of its own the domain passes by SPF as well.")
        )
    return found


def _about_others(digest: Digest) -> list[Advice]:
    """Of mail that somebody else sent in the domain's name."""
    failed = sum(source["messages"] - source["aligned"] for source in digest.other_sources)
    if failed == 0:
        return []
    number = sum(source["messages"] > source["aligned"] for source in digest.other_sources)
    sources = "one source that is" if number == 1 else f"{number} sources that are"
    return [
        Advice(
            Level.INFO,
            f"{failed:,} messages of {sources} not ours did not pass: forwarded, forged, or of a service of yours that "
            "does not sign for the domain yet.",
        )
    ]


def _about_policy(digest: Digest) -> list[Advice]:
    sums, policy = digest.dmarc, digest.policy or {}
    found = []
    if policy.get("p") in ("", "none") and sums.total >= FEW:
        if sums.passed >= WELL * sums.total:
            text = "Nearly all mail passes: the policy can go on to p=quarantine, then p=reject."
        else:
            text = "The policy is p=none, so receivers let forged mail pass. Go on to p=quarantine once your own mail passes."
        found.append(Advice(Level.INFO, text))
    stopped = sums.quarantined + sums.rejected
    if stopped:
        found.append(
            Advice(
                Level.INFO,
                f"By the policy {sums.rejected:,} messages were rejected and {sums.quarantined:,} put aside.",
            )
        )
    return found


def _about_tls(digest: Digest) -> list[Advice]:
    """Of the mail servers that take the domain's mail."""
    return [
        Advice(
            Level.WARNING,
            f"{failure['sessions']:,} connections: {failure['receiving_mx'] or 'a mail server of the domain'} "
            f"{_FAILURES.get(failure['result_type'], _OTHER)}",
        )
        for failure in digest.failures[:3]
        if failure["sessions"]
    ]


def _share(part: int, whole: int) -> str:
    """A percentage that never rounds up to all."""
    return "All" if part == whole else f"{min(part / whole, 0.999):.1%}"
