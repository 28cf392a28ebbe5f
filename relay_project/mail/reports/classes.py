"""Whose trouble a bounce is: the product's own table of replies, asked about what a report quotes.

judge(text, status, action) -> Judgement: reply code and enhanced code are looked for in the text, because a diagnostic
quotes the server that refused, and a Status is what the last machine on the way made of it.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from relay_project.mail.classify import Category, Verdict, classify, without_addresses
from relay_project.mail.reply import Reply, Stage
from relay_project.mail.reports.model import Action, BounceClass
from relay_project.mail.text import clean

MAX_REASON = 500  # characters of a diagnostic that are kept
_READ = 4096  # characters of a text that are looked at
_PARAGRAPH = re.compile(r"\n[ \t]*\n")

# A reply code with its enhanced code, as in "550 5.1.1", "550-5.1.1", "550 #5.1.0", "550 (5.7.1)".
_PAIR = re.compile(r"(?<![\w.])([45][0-7][0-9])[\s:,#(\[-]{1,4}([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]*[0-9])")
# A reply code alone, where a reply may begin.
_CODE = re.compile(
    r"(?:^|said|reason|<<<|response(?: was)?|error|returned|replied|reply|status|code|[;:(\"']):?[\s\"'#(<\[]{0,4}"
    r"([45][0-7][0-9])(?=[\s:;,.#\])>\"'-]|$)(?![.][0-9])",
    re.IGNORECASE,
)
_LOOSE_CODE = re.compile(r"(?<![\w.:/@\[+-])(4[2-5][0-9]|5[0-5][0-9])(?=[\s-]{1,3}[A-Za-z<\"'#*\[])")
_STATUS = re.compile(r"(?<![\w.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]*[0-9])")
_FAILURE_STATUS = re.compile(r"(?<![\w.])([45]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]*[0-9])")
_EXIT_CODE = re.compile(r"^(?:x-unix;)?\s*([0-9]{1,3})$", re.IGNORECASE)
_AFTER_DATA = re.compile(r"end of (?:the )?(?:data|message)|after (?:end of )?data|data command|\bDATA\b")
_AT_MAIL = re.compile(
    r"(?:in reply to|after|response to) (?:the )?mail ?from|mail from command|<<<? ?mail from", re.IGNORECASE
)

# RFC 3463 §2: nothing is said by X.0.0; a server that says more elsewhere is believed there.
_SAYS_NOTHING = frozenset({"", "0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0"})

_EXPIRED = frozenset({"4.7", "4.300"})  # RFC 3463 §3.5; Exchange Online (550 5.4.300 Message expired)
_BY_STATUS = {"4.4": BounceClass.HARD}  # RFC 3463 §3.5: unable to route

# sysexits.h, which local delivery programs end with
_EXIT_STATUS = {64: "5.5.4", 65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 73: "4.2.2", 75: "4.3.0", 76: "5.5.0", 78: "5.3.5"}

# Rules whose category leaves open whose trouble it is in the end.
_BY_RULE = {
    "null-mx-reply": BounceClass.HARD,
    "null-mx-reply-text": BounceClass.HARD,
    "mailbox-inactive": BounceClass.HARD,
    "mailbox-not-available": BounceClass.HARD,
    "outlook-unknown": BounceClass.HARD,
    "owner-changed": BounceClass.HARD,
    "protocol-recipient": BounceClass.HARD,
    "account-disabled": BounceClass.HARD,
    "guard-suspended": BounceClass.HARD,
    "text-address-rejected": BounceClass.HARD,
    "text-domain": BounceClass.HARD,
    "address-other": BounceClass.HARD,
    "rcpt-55x": BounceClass.HARD,
    "domain-takes-no-mail": BounceClass.HARD,
    "recipient-access-denied": BounceClass.HARD,
    "guard-preferences": BounceClass.CONTENT,
    "recipient-refuses": BounceClass.CONTENT,
    "recipient-restricted": BounceClass.CONTENT,
    "destination-relay": BounceClass.INFRASTRUCTURE,
    "relay-denied": BounceClass.INFRASTRUCTURE,
    "text-relay": BounceClass.INFRASTRUCTURE,
    "mail-login": BounceClass.INFRASTRUCTURE,
    "login-required": BounceClass.INFRASTRUCTURE,
}
_BY_CATEGORY = {
    Category.RECIPIENT: BounceClass.SOFT,
    Category.DOMAIN: BounceClass.SOFT,
    Category.TEMPORARY: BounceClass.SOFT,
    Category.CONTENT: BounceClass.CONTENT,
    Category.INFRASTRUCTURE: BounceClass.INFRASTRUCTURE,
}


# Rows that decide when a reply says no more than its code: what else stands in the report may say more.
_VAGUE = frozenset(
    {
        "address-other",
        "data-550",
        "data-552",
        "mail-protocol",
        "mail-refused",
        "mailbox-busy",
        "mailbox-other",
        "network-other",
        "permanent",
        "policy",
        "protocol",
        "rcpt-552",
        "rcpt-55x",
        "system-busy",
        "system-other",
        "transaction-failed",
        "transient",
        "us-deferred",
    }
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a diagnostic comes to. `suppress`: the row is one that takes the address away, as it would in a conversation.

    `is_vague`: nothing but a general code decided.
    """

    bounce_class: BounceClass
    rule: str = ""
    status: str = ""
    code: str = ""
    suppress: bool = False
    is_vague: bool = False


@dataclass(frozen=True, slots=True)
class ReportRule:
    """One row of report_rules.toml."""

    id: str
    bounce_class: BounceClass
    text: re.Pattern[str]
    source: str


def judge(text: str, status: str = "", action: Action = Action.FAILED) -> Judgement:
    """Judge a diagnostic; `status` is what the report's Status field says, if it has one. Never raises.

    What is delayed may still arrive: nobody is gone yet and nothing is refused, whatever the last reply said.
    """
    judgement = _judged(text, status, action)
    if action is Action.DELAYED and judgement.bounce_class in (BounceClass.HARD, BounceClass.CONTENT):
        return replace(judgement, bounce_class=BounceClass.SOFT, suppress=False)
    return judgement


def _judged(text: str, status: str, action: Action) -> Judgement:
    paragraphs = [" ".join(one.split()) for one in _PARAGRAPH.split(text[:_READ])]
    text = clean("\n".join(filter(None, paragraphs)))
    code, quoted, said = _reply_in(text)
    own, status = status, _better(quoted, status)
    if status[2:] in _SAYS_NOTHING:
        status = _exit_status(text) or status
    if not code and not status and not text:
        return Judgement(BounceClass.UNKNOWN, is_vague=True)
    if status[2:] in _EXPIRED:
        return Judgement(BounceClass.SOFT, "report-expired", status, code)
    reply = said.partition("\n")[0] if code else said  # what stands below it speaks of other things
    verdict = _verdict(text, code, "" if quoted else own, status, dict.fromkeys([reply, said]), action)
    if verdict.rule not in _VAGUE:
        return Judgement(_class_of(verdict), verdict.rule, status, code, verdict.suppress)
    rule = _row_for(verdict, [reply, text])
    if rule:
        return Judgement(rule.bounce_class, rule.id, status, code)
    if not code and status[2:] in _SAYS_NOTHING:
        bounce_class = BounceClass.SOFT if status.startswith("4") else BounceClass.UNKNOWN
        return Judgement(bounce_class, "", status, code, is_vague=True)
    return Judgement(_BY_STATUS.get(status[2:], _class_of(verdict)), verdict.rule, status, code, is_vague=True)


def _verdict(text: str, code: str, unquoted: str, status: str, said: Iterable[str], action: Action) -> Verdict:
    """The verdict of the table: of the reply, and if that says no more than its code, of all that follows it.

    A Status that no reply quotes (`unquoted`) was chosen by the machine that reports, mostly by the code alone: where it
    is about policy, or the words are about the message, the words go before it.
    """
    stage = _stage_of(text)
    if code and unquoted[2:].startswith(("7.", "1.1")):
        verdict = classify(stage, _reply(code, "", next(iter(said)), action))
        if verdict.rule not in _VAGUE and (unquoted[2] == "7" or verdict.category is Category.CONTENT):
            return verdict
    verdicts = [classify(stage, _reply(code, status, one, action)) for one in said]
    return next((one for one in verdicts if one.rule not in _VAGUE), verdicts[0])


def _row_for(verdict: Verdict, texts: Iterable[str]) -> ReportRule | None:
    """The row of report_rules.toml that says more than a vague verdict: of the reply before all words, the last row last."""
    words = [without_addresses(text).lower().replace("\n", " ") for text in dict.fromkeys(texts)]
    if verdict.rule in _POLICIES:
        looks = [(rule, one) for one in words for rule in _ROWS_OF_POLICY]
    else:
        looks = [(rule, one) for one in words for rule in REPORT_RULES[:-1]]
        looks += [(REPORT_RULES[-1], one) for one in words]
    return next((rule for rule, one in looks if rule.text.search(one)), None)


def status_in(text: str) -> str:
    """The first enhanced status code of a text, without the comments that some write beside it (lesson C6)."""
    match = _STATUS.search(text)
    return match[1] if match else ""


def _reply_in(text: str) -> tuple[str, str, str]:
    """Find the reply that a text quotes: (code, enhanced code, what was said)."""
    pairs = list(_PAIR.finditer(text))
    pair = next((match for match in pairs if match[2][2:] not in _SAYS_NOTHING), pairs[0] if pairs else None)
    if pair:
        return pair[1], pair[2], text[pair.end() :]
    code = _CODE.search(text) or _LOOSE_CODE.search(text)
    rest = text[code.end() :] if code else text
    status = _FAILURE_STATUS.search(text)
    return code[1] if code else "", status[1] if status else "", rest


def _better(quoted: str, status: str) -> str:
    """The enhanced code that says more; the quoted one where both do or neither does."""
    if status and status[2:] not in _SAYS_NOTHING and quoted[2:] in _SAYS_NOTHING:
        return status
    return quoted or status


def _exit_status(text: str) -> str:
    match = _EXIT_CODE.match(text)
    return _EXIT_STATUS.get(int(match[1]), "") if match else ""


def _reply(code: str, status: str, said: str, action: Action) -> Reply:
    """The reply as the table reads it: code and enhanced code of one class."""
    permanent = (status or code or ("4" if action is Action.DELAYED else "5"))[0] == "5"
    if code[:1] != ("5" if permanent else "4"):
        code = "550" if permanent else "450"
    says_nothing = status[2:] in _SAYS_NOTHING and status[2:] != "7.0"
    return Reply(int(code), None if says_nothing else status, said)


def _stage_of(text: str) -> Stage:
    if _AT_MAIL.search(text):
        return Stage.MAIL
    return Stage.DATA_CLOSE if _AFTER_DATA.search(text) else Stage.RCPT


def _class_of(verdict: Verdict) -> BounceClass:
    if verdict.suppress:
        return BounceClass.HARD
    return _BY_RULE.get(verdict.rule, _BY_CATEGORY.get(verdict.category, BounceClass.UNKNOWN))


def _load_rules(path: Path) -> tuple[ReportRule, ...]:
    """Read the table; a row without id, class, text or source is refused by its missing key."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    return tuple(
        ReportRule(
            row["id"],
            BounceClass(row["class"]),
            re.compile("|".join(f"(?:{text})" for text in row["text"])),
            row["source"],
        )
        for row in rows
    )


REPORT_RULES = _load_rules(Path(__file__).with_name("report_rules.toml"))
# A refusal by policy (X.7.x) is about us or the message before all; some say it of a mailbox that is not there.
_POLICIES = frozenset({"policy", "us-deferred"})
_OF_POLICY = (BounceClass.INFRASTRUCTURE, BounceClass.CONTENT)
_ROWS_OF_POLICY = (
    *(rule for rule in REPORT_RULES if rule.bounce_class in _OF_POLICY or rule.id == "report-no-mailbox"),
    *(rule for rule in REPORT_RULES if rule.bounce_class is BounceClass.HARD and rule.id != "report-no-mailbox"),
)
