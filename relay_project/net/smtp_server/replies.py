"""What the server itself says. One place, so that the texts agree."""

from __future__ import annotations

from functools import lru_cache

from relay_project.net.smtp_server.data import Refusal
from relay_project.net.smtp_server.limits import TurnedAway
from relay_project.net.smtp_server.model import SmtpReply

OK = SmtpReply(250, "2.0.0", "Ok")
SENDER_OK = SmtpReply(250, "2.1.0", "Ok")
RECIPIENT_OK = SmtpReply(250, "2.1.5", "Ok")
GO_AHEAD = SmtpReply(354, "", "End data with <CR><LF>.<CR><LF>")
BYE = SmtpReply(221, "2.0.0", "Bye")
READY_FOR_TLS = SmtpReply(220, "2.0.0", "Ready to start TLS")
HELP = SmtpReply(214, "2.0.0", "RFC 5321 says it all")
WILL_NOT_SAY = SmtpReply(252, "2.5.2", "Send some mail, then it shows")  # RFC 5321 §7.3: VRFY leaks nothing
AUTHENTICATED = SmtpReply(235, "2.7.0", "Authentication successful")

LONG_LINE = SmtpReply(500, "5.5.2", "The line is too long")
UNKNOWN = SmtpReply(500, "5.5.2", "No such command")
NOT_IMPLEMENTED = SmtpReply(502, "5.5.1", "Not implemented")
HELLO_FIRST = SmtpReply(503, "5.5.1", "Say EHLO first")
MAIL_FIRST = SmtpReply(503, "5.5.1", "Say MAIL FROM first")
ONE_MAIL = SmtpReply(503, "5.5.1", "One mail at a time: MAIL FROM has been said")
RCPT_FIRST = SmtpReply(503, "5.5.1", "Say RCPT TO first")
NO_VALID_RECIPIENT = SmtpReply(554, "5.5.1", "No valid recipients")
TLS_FIRST = SmtpReply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_FIRST = SmtpReply(530, "5.7.0", "Authentication required")
TLS_ALREADY = SmtpReply(503, "5.5.1", "TLS is in use already")
AUTH_ALREADY = SmtpReply(503, "5.5.1", "Authenticated already")
AUTH_NOT_HERE = SmtpReply(502, "5.5.1", "AUTH is not offered on this port; submit mail on the submission ports")
AUTH_NOT_NOW = SmtpReply(503, "5.5.1", "AUTH is not permitted during a mail transaction")
AUTH_UNKNOWN = SmtpReply(504, "5.5.4", "PLAIN and LOGIN are the mechanisms")
AUTH_CANCELLED = SmtpReply(501, "5.7.0", "Authentication cancelled")
AUTH_UNREADABLE = SmtpReply(501, "5.5.2", "That cannot be decoded")
AUTH_OTHER_IDENTITY = SmtpReply(535, "5.7.8", "Acting for somebody else is not supported")
NO_ARGUMENT = SmtpReply(501, "5.5.4", "The command takes no argument")
HELLO_SYNTAX = SmtpReply(501, "5.5.4", "Say who you are, in letters, digits, dots and hyphens")
NEEDS_SMTPUTF8 = SmtpReply(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")
TOO_MANY_RECIPIENTS = SmtpReply(452, "4.5.3", "Too many recipients; send to the others in another mail")
DEFECT = SmtpReply(451, "4.3.0", "Something went wrong here; try again later")

TOO_MANY_ERRORS = SmtpReply(421, "4.7.0", "Too many errors")
TOO_MANY_FAILURES = SmtpReply(421, "4.7.0", "Too many failed logins; try again in a while")
TOO_LONG_SILENT = SmtpReply(421, "4.4.2", "Waited too long")
SESSION_OVER = SmtpReply(421, "4.4.2", "The connection is old; please make another one")
FRUITLESS = SmtpReply(421, "4.4.2", "No mail has come for too long")
STOPPING = SmtpReply(421, "4.3.2", "The server is stopping")
NOT_SMTP = SmtpReply(421, "4.7.0", "This is an SMTP server")

MESSAGE_REFUSED = {
    Refusal.TOO_BIG: SmtpReply(552, "5.3.4", "The message is bigger than {limit} octets"),
    Refusal.NO_ROOM: SmtpReply(452, "4.3.1", "Too much mail is on its way in; try again later"),
    Refusal.LONG_LINE: SmtpReply(554, "5.6.0", "The message has a line that is longer than 65536 octets"),
}
TURNED_AWAY = {
    TurnedAway.FULL: SmtpReply(421, "4.3.2", "Too many connections; try again later"),
    TurnedAway.RESERVED: SmtpReply(421, "4.3.2", "Too many connections; try again later"),
    TurnedAway.PEER_CONNECTIONS: SmtpReply(421, "4.7.0", "Too many connections from you at once"),
    TurnedAway.PEER_RATE: SmtpReply(421, "4.7.0", "Too many connections from you in a minute"),
    TurnedAway.AUTH_PAUSE: TOO_MANY_FAILURES,
    TurnedAway.STOPPING: STOPPING,
}


def message_refused(refusal: Refusal, limit: int) -> SmtpReply:
    """Why a message is not taken."""
    reply = MESSAGE_REFUSED[refusal]
    return SmtpReply(reply.code, reply.enhanced, reply.text.format(limit=limit))


@lru_cache(maxsize=1024)
def encoded(reply: SmtpReply) -> bytes:
    """As `reply.encode()`; most replies are said again and again."""
    return reply.encode()
