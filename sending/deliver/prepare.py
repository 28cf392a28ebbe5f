"""Prepare: compose and sign, in threads where a core has nothing else to do, since RSA lets go of the interpreter meanwhile.

Jobs that come together go to the threads in small groups: a hop there and back costs as much as composing, and each
one makes the event loop wait for the interpreter. Where all cores are busy the loop prepares them itself, a few at a
time between what it hears from the servers.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from relay_project.net.smtp_message import WireMessage
from sending.content import compose_stored, sign_composed
from sending.deliver.cores import Cores
from sending.deliver.load import Job

GROUP = 8  # jobs of one hop: some 6 ms with two RSA-2048 signatures each, so the first mails of a claim leave soon
FEW = 4  # jobs that the event loop prepares before it looks at its connections again
SMALL = 256 * 1024  # octets: a larger message would keep the loop for milliseconds


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message ready to be sent; `signature` are its DKIM-Signature lines."""

    signature: bytes
    message: WireMessage  # the signature and what it signs
    eight_bit: bool  # 8BITMIME is asked for only where needed (RFC 6152)
    smtputf8: bool  # and SMTPUTF8 only for a header (RFC 6531): a customer's own MIME may have such a body alone


Waiter = tuple[Job, "asyncio.Future[Prepared]"]


def prepare(job: Job) -> Prepared:
    """Compose and sign one job; an earlier attempt's signature is reused. Raises LookupError without a message."""
    if job.stored is None:
        raise LookupError(job.trouble)
    composed = compose_stored(job.stored)
    signature = job.signature
    if signature is None:
        signature = sign_composed(composed, job.signers, job.stored.message_date) if job.signers else b""
    eight_bit = not composed.isascii()
    smtputf8 = eight_bit and _is_utf8_beyond_ascii(composed.partition(b"\r\n\r\n")[0])
    return Prepared(signature, WireMessage.of((signature, composed)), eight_bit, smtputf8)


def _is_utf8_beyond_ascii(header: bytes) -> bool:
    """A header that came from outside may have other octets, as of Latin-1, for which SMTPUTF8 is no name."""
    if header.isascii():
        return False
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(slots=True)
class Preparer:
    """The signing of one sender; `prepared` is for its event loop."""

    threads: ThreadPoolExecutor
    cores: Cores
    _waiting: list[Waiter] = field(default_factory=list)

    async def prepared(self, job: Job) -> Prepared:
        """The job's message; raises what `prepare` does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Prepared] = loop.create_future()
        self._waiting.append((job, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._hand_in, loop)  # after the tasks that are about to ask too
        return await future

    def _hand_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.cores.has_spare:
            group, self._waiting = self._waiting, []
        else:
            group = self._do_a_few()
        for begin in range(0, len(group), GROUP):
            self._to_threads(loop, group[begin : begin + GROUP])
        if self._waiting:
            loop.call_soon(self._hand_in, loop)

    def _do_a_few(self) -> list[Waiter]:
        """Prepare the next small messages here; returns those that are too large for that."""
        few, self._waiting = self._waiting[:FEW], self._waiting[FEW:]
        small = [waiter for waiter in few if waiter[0].size_bytes <= SMALL and not waiter[1].done()]
        for waiter in small:
            _give(waiter[1], _prepare_one(waiter[0]))
        return [waiter for waiter in few if waiter[0].size_bytes > SMALL]

    def _to_threads(self, loop: asyncio.AbstractEventLoop, group: Sequence[Waiter]) -> None:
        group = [waiter for waiter in group if not waiter[1].done()]
        hop = loop.run_in_executor(self.threads, _prepare_all, [job for job, _ in group])
        hop.add_done_callback(partial(_hand_out, group))


def _prepare_all(jobs: Sequence[Job]) -> list[Prepared | Exception]:
    return [_prepare_one(job) for job in jobs]


def _prepare_one(job: Job) -> Prepared | Exception:
    """What one job raises is its own affair, and is raised where it is waited for."""
    try:
        return prepare(job)
    except Exception as error:  # noqa: BLE001 - handed to the waiter
        return error


def _hand_out(group: Sequence[Waiter], hop: "asyncio.Future[list[Prepared | Exception]]") -> None:
    """In the event loop: give each waiter its result."""
    results = [asyncio.CancelledError()] * len(group) if hop.cancelled() else hop.result()
    for (_, future), result in zip(group, results, strict=True):
        _give(future, result)


def _give(future: "asyncio.Future[Prepared]", result: Prepared | BaseException) -> None:
    """Unless who waited has gone."""
    if future.done():
        return
    if isinstance(result, Prepared):
        future.set_result(result)
    else:
        future.set_exception(result)
