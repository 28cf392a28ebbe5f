"""Prepare: compose and sign, in threads, since RSA takes most of a mail's time and lets go of the interpreter meanwhile.

Jobs that come together go to the threads in small groups: a hop there and back costs as much as composing, and each
one makes the event loop wait for the interpreter.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from relay_project.net.smtp_message import WireMessage
from sending.content import compose_stored, sign_composed
from sending.deliver.load import Job

GROUP = 8  # jobs of one hop: some 6 ms with two RSA-2048 signatures each, so the first mails of a claim leave soon


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message ready to be sent; `signature` are its DKIM-Signature lines."""

    signature: bytes
    message: WireMessage  # the signature and what it signs
    eight_bit: bool  # 8BITMIME is asked for only where needed (RFC 6152)


Waiter = tuple[Job, "asyncio.Future[Prepared]"]


def prepare(job: Job) -> Prepared:
    """Compose and sign one job; an earlier attempt's signature is reused. Raises LookupError without a message."""
    if job.stored is None:
        raise LookupError(job.trouble)
    composed = compose_stored(job.stored)
    signature = job.signature
    if signature is None:
        signature = sign_composed(composed, job.signers, job.stored.message_date) if job.signers else b""
    return Prepared(signature, WireMessage.of((signature, composed)), eight_bit=not composed.isascii())


@dataclass(slots=True)
class Preparer:
    """The signing threads of one sender; `prepared` is for its event loop."""

    threads: ThreadPoolExecutor
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
        waiting, self._waiting = self._waiting, []
        for begin in range(0, len(waiting), GROUP):
            group = [waiter for waiter in waiting[begin : begin + GROUP] if not waiter[1].done()]
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
    """In the event loop: give each waiter its result, unless it has gone."""
    results = [asyncio.CancelledError()] * len(group) if hop.cancelled() else hop.result()
    for (_, future), result in zip(group, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Prepared):
            future.set_result(result)
        else:
            future.set_exception(result)
