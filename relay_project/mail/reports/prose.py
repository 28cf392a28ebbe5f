"""Bounces without a status part: qmail, Exim, old Sendmail and Exchange, gateways and providers that write to people.

read_prose(message) -> Report | None: None for whatever does not look like a bounce in two ways and names nobody. First the
words are told from the mail that they return; then the addresses among them, each with what is said of it.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from email.message import Message
from functools import lru_cache

from relay_project.mail.reports.auto_reply import ANSWER, DAEMON, MACHINE, is_from_nobody
from relay_project.mail.reports.classes import MAX_REASON, Judgement, judge
from relay_project.mail.reports.message import header, headers, is_text, leaves, octets_of, read_message, readable
from relay_project.mail.reports.model import Action, Original, Report, ReportedRecipient, ReportKind
from relay_project.mail.reports.original import is_returned, original_in, read_original
from relay_project.mail.text import clean

MAX_WORDS = 20_000  # characters of the words for people that are read
MAX_RECIPIENTS = 200
_NEAR = 1500  # characters after an address that may speak of it

_SENDER = re.compile(
    r"mailer[-_. ]?daemon|post[-_]?master|mail[-_. ]?(?:delivery|system|server|admin|err|router)|"
    r"delivery[-_. ]?(?:sub)?(?:system|agent|"
    r"notification|failure|service)|(?:system|e-?mail|mail) administrator|^<?(?:mdaemon|mmdf|daemon|bounces?|"
    r"root|smtp|uucp)\b|"
    r"gateway|non-?delivery|undeliver|mail-daemon|\bamavis|content.?filter|mimesweeper|"
    r"servicepostmaster|microsoftexchange|microsoft (?:outlook|exchange)",
    re.IGNORECASE,
)
# Senders of much else: a sign only with the mail that comes back.
_ANSWERS_NOT = re.compile(r"no-?reply|do-?not-?reply|notification|system", re.IGNORECASE)
_SUBJECT = re.compile(
    r"undeliver|un-?deliver|non.?deliver|not (?:be )?deliver|deliver(?:y|ed|ing)?\W.{0,30}(?:fail|status|"
    r"problem|error|delay|notif|report|"
    r"unable|impossible|warning|incomplete)|return(?:ed|ing)?:? .{0,20}(?:mail|message|sender|to)|fail(?:ed|"
    r"ure)?\b.{0,30}(?:mail|notice|deliver|"
    r"message|send)|(?:mail|message|e-?mail)\b.{0,40}(?:fail|error|could not|not sent|rejected|bounce|undeliv|"
    r"returned|status|"
    r"problem|blocked|refused|delayed)|warning.{0,20}(?:could not|message|mail|delay)|(?:could not|unable to|"
    r"can.?not|couldn.t)\b.{0,20}"
    r"(?:send|deliver|be)|user unknown|unknown (?:user|address)|permanent error|bounce|rejected|"
    r"mailbox (?:full|is full)|over ?quota|"
    r"\bNDN\b|\bNDR\b|invalid (?:address|recipient|mail)|unzustellbar|nicht zugestellt|fehler|fehlgeschlagen|"
    r"[eé]chec|non (?:remis|distribu)|"
    r"retour|impossible|no se (?:ha )?p(?:uede|udo)|fallo|devuelto|mancata|impossibile|errore|onbestel|"
    r"niet (?:be|afge)|falha|devolvid|unsolicited|non recapit|n[aã]o [eé] poss[ií]vel|olevererbar|ej levere|kunne ikke|"
    r"kunde inte|niedostarcz|nie dostarcz|nedoru[cč]|nelze doru|iletilemedi|teslim edilemedi|k[eé]zbes[ií]t|ei toimitettu|"
    r"нев[оі]зможно|не удалось|"
    r"n[aã]o entregue|недостав|не доставлен|ошибка|配信|配送|送信|エラー|不達|退信|退回|无法|失败|반송|retorn",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"(?:not|n.t|never|un)[ -]?(?:be(?:en)?)?[ -]?(?:yet )?(?:be(?:en)? )?(?:successfully )?(?:deliver|sent\b|"
    r"reach|accept|send|transmit|processed|complete)|"
    r"deliver\w*\b.{0,60}(?:fail|error|delay|problem|suspend|abort|impossible)|fail\w*\b.{0,60}(?:deliver|"
    r"recipient|address|send|mail|message)|"
    r"(?:permanent|fatal|transient|following)\b.{0,40}(?:error|fail)|return(?:ed|ing)\b.{0,40}(?:mail|message|"
    r"sender|to you)|undeliver|non.?deliver|"
    r"full mailbox|exceeding|(?:not|un) ?able to|postponed|abort|could not|couldn.t|did not receive|bounced|"
    r"unknown|(?:mailbox|quota|"
    r"storage)\b.{0,40}(?:full|exceed|over|unavail)|(?:does not|doesn.t|no longer) (?:exist|valid)|"
    r"no such|not (?:be )?found|not listed|reject|refused|blocked|giving up|invalid|disabled|inactive|error|"
    r"virus|problem|"
    r"\b[45][0-5][0-9][ -]|\b[45]\.[0-9]\.[0-9]{1,3}\b|unzustellbar|nicht zugestellt|[eé]chec|impossible|fallo|"
    r"errore|не (?:удалось|может|был)|\bno se (?:ha |han )?p(?:udo|uede|ueden|udieron)|rechazad|"
    r"non (?:riuscit|recapit|consegn)|"
    r"falha|n[aã]o (?:foi|p[oô]de|[eé] poss)|mislukt|niet (?:bestel|bezorg|afgelever|worden)|nie (?:zosta|mo[zż]|uda[lł]o)|"
    r"kunde inte|kunne ikke|misslyck|nelze|nebyl|iletilemedi|edilemedi|nem (?:siker|lehet|k[eé]zbes)|ei voitu|"
    r"not (?:a )?valid|unsolicited|stopped|may not exist|"
    r"できません|エラー|不明|存在|无法|無法|失败|失敗|退信|退回|拒|반송|실패",
    re.IGNORECASE,
)
_STILL_TRYING = re.compile(
    r"(?:still|continue|keep|keeps|going) (?:to |on )?(?:be(?:ing)? )?(?:retr|try|attempt|queue)|"
    r"will (?:be )?(?:retr|continue|keep|try again|attempt(?! to contact))|"
    r"warning (?:message )?only|do(?:n.t| not) need to resend|not yet been delivered|has been delayed|(?:is|"
    r"been) delayed|"
    r"delivery attempts will|will be (?:attempted|re-?tried|made)|still in (?:the )?queue|delayed mail|"
    r"message delayed",
    re.IGNORECASE,
)
_GAVE_UP = re.compile(
    r"permanent (?:error|fail)|giving up\b|given up\b|will not (?:be )?(?:retr|try|continue)|(?:not|"
    r"n.t) (?:be )?(?:going to )?(?:try|retr)\w* again|"
    r"failed permanently|has expired|expired",
    re.IGNORECASE,
)
# What tells of a delivery that went well, or of a mail that lists and newsletters sent.
_SUCCESS = re.compile(
    r"(?:was|were|been|is) (?:successfully )(?:delivered|relayed|forwarded)|success\w* (?:mail )?delivery|"
    r"notification \((?:success|relay|expan)|^(?:delivered|relayed|expanded|zugestellt|weitergeleitet)\b",
    re.IGNORECASE,
)
_NOTICE = re.compile(r"postfix smtp (?:server|client): errors|cron <", re.IGNORECASE)  # what servers tell their keepers
_OF_A_LIST = re.compile(
    r"\b(?:owner-[\w.-]{1,64}|[\w.-]{1,64}-(?:owner|request|help|bounces)|listserv|majordomo|mailman)@", re.IGNORECASE
)
_OF_LISTS = ("List-Unsubscribe", "List-Id", "List-Post", "Feedback-ID")
_UNMISTAKABLE = re.compile(
    r"(?:failed|undelivered) recipients|(?:permanent|following) .{0,40}(?:fatal|delivery) errors?|"
    r"transcript of (?:the )?session|session transcript|"
    r"non-?delivery (?:report|notification)|error message below|"
    r"(?:could|can|did) ?not (?:be )?deliver\w{0,3} (?:\w{1,20} ){0,4}following|"
    r"returned mail|delivery (?:status notification|"
    r"has failed|failure)|"
    r"smtp error|(?:message|mail) (?:has )?encountered (?:a )?(?:delivery )?(?:problem|error)|"
    r"(?:not|n.t) (?:be )?delivered to(?: the following| one or more|:? ?<)|did not reach the following|"
    r"undeliverable (?:mail|message)|"
    r"following (?:recipients?|address(?:es)?|user)\b.{0,60}(?:fail|undeliver|not|invalid|unknown|error|reject)|"
    r"diagnos\w{1,12} ?information\w{0,3} (?:for|für) administrat|(?:generating|generierender) server|"
    r"fehler bei der nachrichtenzustellung|échec de la remise|no se pudo entregar (?:el|su|este|tu) mensaje|"
    r"não foi possível entregar a mensagem|あて先へのメッセージはエラー|以下のメールアドレスへの送信に失敗|"
    r"(?:message|nachricht|mensaje|mensagem|messaggio)\b.{0,40}(?:n.a pas pu être|konnte nicht zugestellt|"
    r"no pudo ser entregad|não pôde ser entregue|non (?:è stato|può essere) (?:recapitat|consegnat))|"
    r"您的邮件(?:无法|被退)|письмо не (?:может быть|было) доставлен",
    re.IGNORECASE,
)
# Where the mail that comes back begins, after the words about it.
_RETURNED = re.compile(
    r"^[ \t>|*#=-]*(?:(?:below (?:this|the next) line|this) is a copy of|(?:below|here) is (?:a copy|"
    r"the (?:original|returned))|"
    r"(?:a )?copy of (?:the|your) (?:original |returned )?(?:message|mail)|header(?:s)? of (?:the|"
    r"your) (?:original|message)|"
    r"the header of the|(?:first|top) [0-9]{1,4} (?:lines|bytes)|the first [0-9]{1,4} lines)[^\n]{0,100}$"
    r"|^[ \t>|*#=-]*(?:(?:the )?(?:original|returned|unsent|undelivered|bounced|old|rejected|failed|included|"
    r"attached|start of)[ -](?:e-?mail |mail )?"
    r"(?:message|mail|text|header|msg)s?|message (?:header|text|body|content)s?|forwarded message|"
    r"unsent message|原文|元のメール)"
    r"(?:[ -](?:headers?|text|body|follows?|below|copy|is|source|begins?|information))*[ \t:.,*=#>-]*$"
    r"|^[ \t>|*#=-]{2,}your (?:message|mail)[ \t:.*=#>-]*$|^[ \t]*your (?:message|mail) (?:follows|text|headers?)[ \t:.-]*$"
    r"|^[ \t>|]*(?:received: (?:from|by) |return-path: ?<|message-id: ?<|x-mailer:|mime-version:|dkim-signature:)",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_BEGINS = re.compile(
    r"^[ \t>|]*(?:received|return-path|from|to|subject|date|message-id|mime-version|x-[\w-]+)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_ADDRESS = re.compile(
    r"(?:\"[^\"\s]{1,64}\"|[\w!#$%&'*+/=?^`{|}~.-]{1,64})@[A-Za-z0-9À-ӿ](?:[A-Za-z0-9À-ӿ.-]{0,250}[A-Za-z0-9À-ӿ])?",
    re.UNICODE,
)
# An address that stands for itself on its line, as servers name those who failed.
_NAMED = re.compile(
    r"(?:^|\n)[ \t>*-]*(?:\"[^\"\n]{0,80}\" *|'[^'\n]{0,80}' *)?(?:SMTP:|smtp;|rfc822;|mailto:|"
    r"<mailto:)?[<(\['\"]?(?=\S{1,320})"
    r"(?P<address>(?:\"[^\"\s]{1,64}\"|[\w!#$%&'*+/=?^`{|"
    r"}~.-]{1,64})@[A-Za-z0-9À-ӿ](?:[A-Za-z0-9À-ӿ.-]{0,250}[A-Za-z0-9À-ӿ])?)"
    r"(?![A-Za-z0-9À-ӿ-]|\.[A-Za-z0-9À-ӿ])[>)\]'\"]*[ \t]*(?:<mailto:[^>\n]{0,320}>|"
    r"\([^)\n]{0,200}\))?[ \t]*(?:[:;,.]|\.\.\.|$|(?=\n)|(?=-)|"
    r"(?= on )|(?=[0-9]))",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"(?:smtp[=:]|rcpt to:? ?|to:? |recipients?:? |user(?:s|id)?:? |mailbox(?:es)?:? |address(?:es)?:? |account:? |"
    r"for:? |addressee:? |failed:? |was addressed,? |unknown:? |"
    r"name:? |deliver(?:ed|y)? to:? |person:? |(?:宛先|收件人)[：:] ?)[<\"'\[(]{0,2}(?P<address>[\w!#$%&'*+/=?^`{|"
    r"}~.-]{1,64}@[A-Za-z0-9À-ӿ][A-Za-z0-9À-ӿ.-]{0,250}[A-Za-z0-9À-ӿ])",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"following (?:recipient|address|user)[^\n]{0,200}:[ \t]*\n(?:[ \t]*\n){0,3}[ \t]*([\w.+-]{1,64})[ \t]*(?:\n|$|\()",
    re.IGNORECASE,
)
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}\.)+[a-z]{2,24}|[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}")
_IS_SENDER = re.compile(
    r"(?<!generated )(?<!expanded )\b(?:from|sender|by|von|contact|mail)[: ]{1,3}<?$", re.IGNORECASE
)
_FORWARDED = re.compile(r"(?:expanded|generated|forwarded|derived|redirected|addressed)\b[^\n@]{0,20}$", re.IGNORECASE)
_NOT_A_RECIPIENT = re.compile(
    r"^(?:postmaster|mailer-daemon|abuse|support|help(?:desk)?|webmaster|hostmaster|admin|info-?tech)@", re.IGNORECASE
)


def read_prose(message: Message) -> Report | None:
    """Read a bounce that only people were meant to read."""
    words, returned = _told(message)
    inner = _inner(message, words)
    return (_read(inner, *_told(inner)) if inner else None) or _read(message, words, returned)


def _inner(message: Message, words: str) -> Message | None:
    """The bounce that a mail system passes on without a word about whose it is; one deep."""
    if not DAEMON.search(header(message, "From")) or _ADDRESS.search(words):
        return None
    inner = next((read_message(octets_of(part)) for part in leaves(message) if is_returned(part)), None)
    return inner if inner and DAEMON.search(header(inner, "From")) else None


def _read(message: Message, words: str, returned: str) -> Report | None:
    subject = header(message, "Subject")
    signs = 0 if _is_notice(message, subject) else _signs(message, subject, words)
    if signs < 2 or (signs < 3 and not _is_of_a_mail_system(message, returned)):
        return None
    if not _says_failure(message, f"{subject}\n{words}"):
        return None
    if _SUCCESS.search(f"{subject}\n{words[:1500]}") and not judge(words).code:
        return None
    is_plain = _is_plain(message, words, returned)
    if not is_plain and not (_SUBJECT.search(subject) and _SENDER.search(header(message, "From"))):
        return None
    original = _original(message, returned)
    action = _action(subject, words)
    is_plain = is_plain or signs > 2 or _quotes_a_reply(message, words)
    found = _recipients(message, words, original, is_plain) or _self_addressed(message, words, returned, original)
    if not found and not (original.tokens and _is_certain(message, words, returned)):
        return None
    found = found or [("", words)]  # a return path of ours says whose mail it was
    recipients = tuple(
        _judged(address, said, f"{subject}\n{words}", action, len(found) == 1) for address, said in found
    )
    return Report(ReportKind.BOUNCE, recipients, original)


def _says_failure(message: Message, said: str) -> bool:
    """Whether anything failed; a daemon that returns a mail need not say it in a language that is known here."""
    if _FAILURE.search(said) or header(message, "X-Failed-Recipients"):
        return True
    return bool(DAEMON.search(header(message, "From"))) and any(is_returned(part) for part in leaves(message))


def _is_of_a_mail_system(message: Message, returned: str) -> bool:
    """Whether a mail system may have written it: people, shops and couriers speak of deliveries too."""
    return bool(
        MACHINE.search(f"{header(message, 'From')} {header(message, 'Sender')}")
        or is_from_nobody(message)
        or header(message, "X-Failed-Recipients")
        or message.get_param("report-type")
        or any(is_returned(part) for part in leaves(message))
        or re.search(r"^[>| ]*received:", returned, re.IGNORECASE | re.MULTILINE)
    )


def _is_certain(message: Message, words: str, returned: str) -> bool:
    """Whether it must be a bounce, even if it names nobody: it returns the mail, or quotes a reply."""
    return bool(returned or message.get_param("report-type") or any(is_returned(part) for part in leaves(message))) or (
        bool(DAEMON.search(header(message, "From"))) and bool(judge(words).code)
    )


def _quotes_a_reply(message: Message, words: str) -> bool:
    """Whether a postmaster, who may be a person as well, quotes what a server replied."""
    return bool(MACHINE.search(header(message, "From"))) and bool(judge(words).code)


def _is_notice(message: Message, subject: str) -> bool:
    """Whether it tells the keepers of a mail system what goes on there, or is a copy for them."""
    return bool(_NOTICE.match(subject)) or "X-MS-Journal-Report" in message


def _is_plain(message: Message, words: str, returned: str) -> bool:
    """Whether more than its subject says so: a mailer daemon wrote it, its words are unmistakable, or the mail is returned."""
    return bool(
        DAEMON.search(header(message, "From"))
        or not header(message, "From").strip("<> \t")
        or _UNMISTAKABLE.search(words[:3000])
        or header(message, "X-Failed-Recipients")
        or message.get_param("report-type")
        or returned
        or any(is_returned(part) for part in leaves(message))
    )


def _signs(message: Message, subject: str, words: str) -> int:
    """How many things say that a mail system wrote this about a mail: its sender, subject, words, or return path."""
    sender = f"{header(message, 'From')} {header(message, 'Sender')}"
    is_machine = bool(_SENDER.search(sender) or not sender.strip("<> \t"))
    if not MACHINE.search(sender) and _is_of_others(message, sender, subject, is_machine):
        return 0
    return (
        is_machine
        + bool(DAEMON.search(sender))
        + bool(_UNMISTAKABLE.search(words[:3000]))
        + bool(_SUBJECT.search(subject))
        + is_from_nobody(message)
        + 2 * bool(header(message, "X-Failed-Recipients"))
        + (message.get_param("report-type") == "delivery-status")
        + (bool(_ANSWERS_NOT.search(sender)) and any(is_returned(part) for part in leaves(message)))
    )


def _is_of_others(message: Message, sender: str, subject: str, is_machine: bool) -> bool:
    """Whether people or lists wrote it, whatever it talks of: an answer, a newsletter, a mail with its writer's return path."""
    if ANSWER.match(subject) or _OF_A_LIST.search(header(message, "From")):
        return True
    if is_machine or is_from_nobody(message):
        return False
    is_persons = bool(header(message, "Return-Path")) and not _ANSWERS_NOT.search(sender)
    return is_persons or any(header(message, name) for name in _OF_LISTS)


def _told(message: Message) -> tuple[str, str]:
    """The words for people, and the text of what comes back below them."""
    texts = [part for part in leaves(message) if is_text(part) and not is_returned(part)]
    plain = [part for part in texts if part.get_content_subtype() != "html"]
    whole = "\n".join(readable(part) for part in (plain or texts)[:3])[:MAX_WORDS]
    if not whole.strip() and texts:
        whole = readable(texts[0])[:MAX_WORDS]
    seen = 0  # what stands before the last cut was looked at: a mail may have a thousand
    for cut in _RETURNED.finditer(whole):
        if _FAILURE.search(whole, seen, cut.start()) or _ADDRESS.search(whole, seen, cut.start()):
            return whole[: cut.start()], whole[cut.start() :]
        seen = cut.start()
    return whole, ""


def _original(message: Message, returned: str) -> Original:
    original = read_original(message)
    begins = _HEADER_BEGINS.search(returned)
    if original.message_id or original.recipients or not begins:
        return original
    text = re.sub(r"(?m)^[>|] ?", "", returned[begins.start() :])
    return replace(original_in(text), tokens=original.tokens)


def _action(subject: str, words: str) -> Action:
    said = f"{subject}\n{words[:3000]}"
    return Action.DELAYED if _STILL_TRYING.search(said) and not _GAVE_UP.search(said) else Action.FAILED


def _recipients(message: Message, words: str, original: Original, is_plain: bool) -> list[tuple[str, str]]:
    """Who failed, and what is said of each; addresses amid a sentence only where it is plain that a mail bounced."""
    ours = _own_addresses(message, original)
    sent_to = {address.lower() for address in original.recipients} - ours
    named, told, any_ = (_places(pattern, words, ours, sent_to) for pattern in (_NAMED, _TOLD, _ADDRESS))
    if not any_ and not sent_to:  # then those who help elsewhere are who failed: support@ and admin@ get mail too
        all_ = {match[0].lower() for match in _ADDRESS.finditer(words) if not _is_near(match[0], message)}
        named, told = (_places(pattern, words, ours, all_) for pattern in (_NAMED, _TOLD))
    known = [place for place in any_ if place[0].lower() in sent_to]
    forwarded = [place for place in known if _FORWARDED.search(words, max(0, place[1] - 40), place[1])]
    failed = [match[0] for field in headers(message, "X-Failed-Recipients") for match in _ADDRESS.finditer(field)]
    if forwarded and len(named) == 1 and named[0][1] < forwarded[0][1]:
        return [(forwarded[0][0], _with_words(named, words)[0][1])]
    if failed and (not known or sent_to.intersection(map(str.lower, failed))):
        return [(address, _said_of(address, words)) for address in dict.fromkeys(failed)][:MAX_RECIPIENTS]
    if named:
        return _with_words(named, words)
    if known or (is_plain and (told or (any_ and (not sent_to or len({address for address, _ in any_}) == 1)))):
        return _with_words(known or told or any_, words)
    listed = _listed_locals(message, words, sent_to)
    if listed:
        return listed
    return [(original.recipients[0], words)] if len(sent_to) == 1 else []


def _self_addressed(message: Message, words: str, returned: str, original: Original) -> list[tuple[str, str]]:
    """The one whom the report went to, where a mail system names them as who failed and returns the mail."""
    if not DAEMON.search(header(message, "From")):
        return []
    to = {match[0].lower() for value in headers(message, "To") for match in _ADDRESS.finditer(value)}
    known = {address.lower() for address in original.recipients} or (to if returned else set())
    places = [place for place in _places(_NAMED, words, set(), known) if place[0].lower() in to & known]
    return _with_words(places, words) if places else []


def _listed_locals(message: Message, words: str, sent_to: set[str]) -> list[tuple[str, str]]:
    """Those whom a server lists without its own domain, below "the following recipients"."""
    found = []
    for match in _LISTED.finditer(words):
        local = match[1].lower()
        known = [address for address in sent_to if address.partition("@")[0] == local]
        domain = header(message, "From").rpartition("@")[2].strip('<> \t"').lower()
        if known or (not sent_to and DAEMON.search(header(message, "From")) and _DOMAIN.fullmatch(domain)):
            found.append((known[0] if known else f"{local}@{domain}", words))
    return found[:MAX_RECIPIENTS]


def _places(pattern: re.Pattern[str], words: str, ours: set[str], sent_to: set[str]) -> list[tuple[str, int]]:
    """The addresses that a pattern finds, and where; those of the sender and of who wrote it are left out.

    Those who help are too, unless the mail went to them or they stand where servers name who failed: "<support@…>: ".
    """
    group = "address" if pattern.groups else 0
    found = [(match[group], match.start(group)) for match in pattern.finditer(words)]
    return [
        (address, place)
        for address, place in found
        if address.lower() not in ours
        and (
            not _NOT_A_RECIPIENT.match(address)
            or address.lower() in sent_to
            or words.startswith(">:", place + len(address))
        )
        and not _IS_SENDER.search(words, max(0, place - 20), place)
    ]


def _is_near(address: str, message: Message) -> bool:
    """Whether an address is one of the mail system that writes."""
    there = "." + header(message, "From").rpartition("@")[2].strip('<> \t"').lower()
    domain = "." + address.rpartition("@")[2].lower()
    return there.endswith(domain) or domain.endswith(there)


def _own_addresses(message: Message, original: Original) -> set[str]:
    """Addresses of whom the report was sent to and by: they did not fail.

    DragonFly writes who failed into X-Original-To; elsewhere it is whom the report was sent to.
    """
    ours = _addresses_of(message, "To", "From", "Sender", "Delivered-To", "Reply-To")
    return ours | (_addresses_of(message, "X-Original-To") - {address.lower() for address in original.recipients})


def _addresses_of(message: Message, *names: str) -> set[str]:
    fields = (value for name in names for value in headers(message, name))
    return {match[0].lower() for value in fields for match in _ADDRESS.finditer(value)}


def _with_words(places: Iterable[tuple[str, int]], words: str) -> list[tuple[str, str]]:
    """Each address once, with the words from its line to the next address."""
    first: dict[str, tuple[str, int]] = {}
    for address, place in places:
        first.setdefault(address.lower(), (address.rstrip("."), place))
    ordered = sorted(first.values(), key=lambda one: one[1])[:MAX_RECIPIENTS]
    ends = [place for _, place in ordered[1:]] + [len(words)]
    return [(address, _line_on(words, place, end)) for (address, place), end in zip(ordered, ends, strict=True)]


def _line_on(words: str, place: int, end: int) -> str:
    begin = words.rfind("\n", 0, place) + 1
    return words[begin : min(max(end, place + 80), place + _NEAR)]


def _said_of(address: str, words: str) -> str:
    place = words.lower().find(address.lower())
    return _line_on(words, place, len(words)) if place >= 0 else ""


@lru_cache(maxsize=4)  # a report may name hundreds of whom nothing is said alone
def _judged_whole(words: str, action: Action) -> Judgement:
    return judge(words, action=action)


def _judged(address: str, said: str, words: str, action: Action, is_only: bool) -> ReportedRecipient:
    """The class by what is said of the address, else by all that is said."""
    judgement, reason = judge(said, action=action), said
    if judgement.is_vague:
        whole = _judged_whole(words, action)
        if not whole.is_vague or (is_only and whole.status):
            judgement, reason = whole, said if is_only and len(said) > 40 else words
    return ReportedRecipient(
        clean(address, 320),
        judgement.status,
        judgement.code,
        judgement.bounce_class,
        clean(" ".join(reason.split()), MAX_REASON),
        action,
        judgement.rule,
        judgement.suppress,
    )
