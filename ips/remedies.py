"""What to do about an incident: by its cause, by the provider it is at, and by the lists that its replies name.

Addresses of forms move; each names the page of the provider's own help that leads to it.
"""

from collections.abc import Iterable

from relay_project.mail.classify import Cause

# docs/classification.md says it at length.
BY_CAUSE = {
    Cause.IP_REPUTATION: (
        "The receiver does not trust the address, or lists it. Read the reply: it mostly names the list or a form for "
        "removal. Find out who sent what it complains of, and let the address rest or move it to another queue until "
        "then."
    ),
    Cause.AUTHENTICATION: (
        "SPF, DKIM or DMARC did not pass. Check the sending domain's DKIM record and its status, the SPF record of the "
        "instance domain, and whether somebody's From domain forbids what we send."
    ),
    Cause.DNS: (
        "The receiver cannot make sense of our names. The source IP needs a PTR record with its EHLO name, that name an "
        "address record back to the IP, and the instance domain MX records, because the return path lies there."
    ),
    Cause.RATE: (
        "The receiver wants fewer connections or messages from this address. Relay slows down by itself; when it lasts, "
        "spread the mail over more addresses or warm this one up more slowly."
    ),
    Cause.PROTOCOL: (
        "The receiver refuses what we say, or gives no reason that can be read. Read the conversation of the last "
        "attempt."
    ),
}
# What a provider offers to who sends to it; names as in providers.toml. For every cause but PROTOCOL.
BY_PROVIDER = {
    "google": "Google shows domain and IP reputation in Postmaster Tools (postmaster.google.com), and takes reports of "
    "bulk senders at support.google.com/mail/contact/gmail_bulk_sender_escalation.",
    "outlook-consumer": "Microsoft shows what it sees of an address in SNDS (sendersupport.olc.protection.outlook.com/snds), "
    "and takes requests for Outlook.com at olcsupport.office.com.",
    "microsoft365": "Microsoft 365 takes addresses off its block list at sender.office.com.",
    "yahoo": "Yahoo takes requests at senders.yahooinc.com/contact, and shows complaints in its Sender Hub.",
    "apple": "Apple takes requests at icloudadmin@apple.com; support.apple.com/102322 says what it expects.",
    "proofpoint": "Proofpoint looks addresses up, and takes requests, at ipcheck.proofpoint.com.",
    "mimecast": "Mimecast takes requests at community.mimecast.com (Sender Feedback).",
}
# (what a reply has in it, in lower case; what to do). The first that fits a reply counts for it.
BY_TEXT = (
    ("spamhaus", "Spamhaus says why an address is listed, and takes it off, at check.spamhaus.org."),
    ("barracuda", "Barracuda takes requests for removal at barracudacentral.org/rbl/removal-request."),
    ("spamcop", "SpamCop's listings end by themselves a day after the last report: spamcop.net/bl.shtml."),
    ("proofpoint", BY_PROVIDER["proofpoint"]),
    ("cloudmark", "Cloudmark takes requests at csi.cloudmark.com/en/reset."),
    ("sorbs", "SORBS has ended: a receiver that still asks it has to take it out."),
    ("uceprotect", "UCEPROTECT's listings end by themselves after seven days: uceprotect.net."),
    ("senderscore", "Validity takes requests for removal at senderscore.org."),
    ("trendmicro", "Trend Micro looks addresses up, and takes requests, at servicecentral.trendmicro.com."),
    ("sender.office.com", BY_PROVIDER["microsoft365"]),
    ("talos", "Cisco Talos shows an address's reputation, and takes tickets, at talosintelligence.com."),
    ("abusix", "Abusix looks addresses up, and takes them off, at lookup.abusix.com."),
    ("postmaster.t-online.de", "T-Online lets in who is known to it: postmaster.t-online.de says how to ask."),
    ("postmaster.gmx", "GMX, WEB.DE and 1&1 say at postmaster.gmx.net what they expect, and take requests there."),
)


def remedies(cause: Cause, site: str, replies: Iterable[str]) -> list[str]:
    """Sentences, the general one first, each once."""
    found = [BY_CAUSE[cause]]
    if cause is not Cause.PROTOCOL and site in BY_PROVIDER:
        found.append(BY_PROVIDER[site])
    for reply in replies:
        lower = reply.lower()
        found += [advice for text, advice in BY_TEXT if text in lower][:1]
    return list(dict.fromkeys(found))
