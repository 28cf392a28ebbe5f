"""Port 25: which mail is taken, and what is said about the rest.

Taken: signed return paths (those of mail that was passed on from the null sender alone, or anybody could have us send mail
to whom it came from), the names that reports are sent to, and what a project has a route for. All else is refused at
RCPT: nothing is relayed, nothing is bounced later, and no mail of this side answers one. A mail that was taken is committed
before its 250, or its sender is asked to come again.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import InterfaceError, OperationalError

from relay_project.db.rounds import close_connection
from relay_project.db.trouble import note_trouble
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from relay_project.net.smtp_server.model import Mail, Peer, SmtpReply
from sending.inbound.addresses import FORGED, Standing, of_path, standing_of
from sending.inbound.routing.match import receives
from sending.inbound.store import Arrived, NotStored, Store

MAX_ADDRESS = 512  # characters; a path has 256 octets (RFC 5321 §4.5.3.1.3)

NO_LOGIN = SmtpReply(503, "5.5.1", "No AUTH here: submit mail on port 587 or 465")
FORGED_PATH = SmtpReply(550, "5.7.1", "We did not make this address")
BOUNCES_ONLY = SmtpReply(550, "5.7.1", "Only a report with the null sender, <>, is taken here")
TOO_OLD = SmtpReply(550, "5.7.1", "The mail that this address is about is too old")
NO_SUCH = SmtpReply(550, "5.1.1", "No such address here")
NO_RELAY = SmtpReply(550, "5.7.1", "We take no mail for this address")
TRY_AGAIN = SmtpReply(451, "4.3.0", "Not now: try again later")

_REPLIES = {
    Standing.FORGED: FORGED_PATH,
    Standing.WAY_BACK: BOUNCES_ONLY,
    Standing.EXPIRED: TOO_OLD,
    Standing.UNKNOWN: NO_SUCH,
    Standing.FOREIGN: NO_RELAY,
}

log = structlog.get_logger()

REFUSED = Counter("relay_inbound_rcpt_refused_total", "Recipients that were refused on port 25.", ["why"])


class InboundReception:
    """The reception of the MX service (relay_project.net.smtp_server.model.Reception)."""

    def __init__(self) -> None:
        self._store = Store()
        self._thread = ThreadPoolExecutor(1, "inbound-rcpt")  # asks the database who has an address

    async def login(self, peer: Peer, name: str, secret: str) -> object | SmtpReply:
        """Nobody signs in here."""
        return NO_LOGIN

    async def sender(self, peer: Peer, login: object | None, address: str, size: int | None) -> SmtpReply | None:
        """Any: reports come from <>, and not all that should do."""
        return None

    async def recipient(self, peer: Peer, login: object | None, mail_from: str, address: str) -> SmtpReply | None:
        """None for an address whose mail is ours."""
        if len(address) > MAX_ADDRESS:
            return self._refuse(Standing.FOREIGN, peer, address)
        standing = of_path(address)
        if standing is None:
            try:
                standing = await asyncio.get_running_loop().run_in_executor(self._thread, _asked, address)
            except (OperationalError, InterfaceError):
                return TRY_AGAIN
        is_taken = standing is Standing.OURS or (standing is Standing.WAY_BACK and not mail_from)
        return None if is_taken else self._refuse(standing, peer, address)

    async def message(self, mail: Mail) -> SmtpReply:
        """250 after the commit."""
        arrived = Arrived(
            peer=mail.peer.address,
            helo_name=mail.peer.helo,
            tls=mail.peer.tls or "",
            mail_from=mail.mail_from,
            recipients=tuple(recipient.address for recipient in mail.recipients),
            octets=mail.octets,
        )
        try:
            mail_id = await self._store.keep(arrived)
        except NotStored:
            return TRY_AGAIN
        return SmtpReply(250, "2.0.0", f"Kept as {mail_id}")

    async def close(self) -> None:
        """Finish what is being stored, and let go of the connections; after the server has stopped."""
        await self._store.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, close_connection)
        self._thread.shutdown()

    def _refuse(self, standing: Standing, peer: Peer, address: str) -> SmtpReply:
        REFUSED.labels(standing.value).inc()
        if standing is Standing.FORGED:
            FORGED.labels("rcpt").inc()
            log.warning("inbound.forged", peer=peer.address, recipient=clean(address, 100))
        return _REPLIES[standing]


def _asked(address: str) -> Standing:
    """In a thread with a connection of its own."""
    try:
        standing = standing_of(address)
        return Standing.OURS if standing is Standing.FOREIGN and receives(address) else standing
    except (OperationalError, InterfaceError) as error:
        note_trouble("inbound", error)
        raise
