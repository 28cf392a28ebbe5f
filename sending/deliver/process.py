"""One sender process: the engine, and beside it the procrastinate worker through which wake-ups reach it.

The engine is the work; the worker is a hint's messenger. It ends when the database goes away and is started again, while
the engine lives on and finds by its own look what the worker would have told it.
"""

import asyncio
import gc
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog
import uvloop
from procrastinate.contrib.django import app

from relay_project import jobs
from sending.deliver.engine import Engine

log = structlog.get_logger()

WORKER_POLL_SECONDS = 1.0  # for hints whose notification got lost
WORKER_PAUSE_SECONDS = 2.0
YOUNG_OBJECTS = 10_000  # a collection looks at these: those of some hundred mails, nearly all of them gone by then
UNSERVED_PAUSE_SECONDS = 0.05  # before the first IP is served; mail that is accepted then should not wait for a look


def run(engine: Engine) -> None:
    """Run a given engine until SIGTERM or SIGINT."""
    spare_the_collector()
    uvloop.run(_serve(engine))


def spare_the_collector() -> None:
    """Leave out of collections what is loaded by now and stays, and make them rarer: they took 20 µs a mail.

    Nothing on the way of a mail is part of a cycle, so what is done with is freed at once all the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


async def _serve(engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(4, "default"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop)
    running = asyncio.create_task(engine.run())
    worker = asyncio.create_task(_listen(engine))
    try:
        await running
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def _listen(engine: Engine) -> None:
    """Keep a worker on the drain queues of this process; start it anew when it ends or the queues change."""
    while True:
        queues = served_queues(engine)
        if not queues:
            await asyncio.sleep(UNSERVED_PAUSE_SECONDS)
            continue
        worker = asyncio.create_task(_work(queues))
        try:
            while not worker.done() and served_queues(engine) == queues:
                await asyncio.wait([worker], timeout=WORKER_PAUSE_SECONDS)
        finally:
            worker.cancel()
            [ended] = await asyncio.gather(worker, return_exceptions=True)
        if isinstance(ended, Exception):
            log.warning("wakeups.worker_ended", error=f"{type(ended).__name__}: {ended}".strip())
        await asyncio.sleep(WORKER_PAUSE_SECONDS if isinstance(ended, Exception) else 0)


async def _work(queues: list[str]) -> None:
    connector = app.connector.get_worker_connector()  # type: ignore[attr-defined]
    with app.replace_connector(connector) as working:
        async with working.open_async():
            await working.run_worker_async(
                queues=queues,
                concurrency=len(queues),
                fetch_job_polling_interval=WORKER_POLL_SECONDS,
                install_signal_handlers=False,
                delete_jobs="always",
                listen_notify=True,
            )


def served_queues(engine: Engine) -> list[str]:
    """The procrastinate queues of the mail queues that this process carries or lends to."""
    return sorted({jobs.drain_queue(queue) for ip in engine.registration.ips.values() for queue in ip.queue_ids})
