"""How `end_to_end` gets its mail accepted: through POST /sends/batch of the web process, or by calls of accept_many()."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from projects.models import Project
from relay_project.bench.accept import await_web, key_of
from relay_project.bench.http_load import Target, batch_of, run_through
from relay_project.bench.plan import Plan
from relay_project.bench.process import Process, cpu_seconds
from relay_project.bench.stage import take
from sending.accept.request import SendRequest

Mail = Sequence[tuple[int, list[SendRequest]]]  # batches, with the number of the project that each belongs to

FROM_CALL = "a message, from the call of accept_many() to its arrival at the sink"
FROM_REQUEST = "a message, from the first byte of its batch's request to its arrival at the sink"


@dataclass(slots=True)
class Calls:
    """accept_many() in this process, one batch after the other."""

    plan: Plan
    projects: Sequence[Project]
    of: str = FROM_CALL
    web_seconds: float = 0.0
    _mail: Mail = ()

    def prepare(self, mail: Mail) -> None:
        """Writing the mail is not what is measured."""
        self._mail = mail

    def accept(self, asked: list[float]) -> None:
        """Accept all, at the plan's pace; `asked` gets the time of each message's call."""
        began = time.monotonic()
        for project, requests in self._mail:
            if self.plan.pace:
                time.sleep(max(began + len(asked) / self.plan.pace - time.monotonic(), 0))
            asked += [time.time()] * len(requests)
            take(self.projects[project], requests)


@dataclass(slots=True)
class Requests:
    """POST /sends/batch over a few connections; every message has content of its own."""

    plan: Plan
    tokens: Sequence[str]
    web: Process
    of: str = FROM_REQUEST
    web_seconds: float = 0.0
    _sizes: list[int] = field(default_factory=list)
    _requests: list[bytes] = field(default_factory=list)

    def prepare(self, mail: Mail) -> None:
        """Writing the requests is not what is measured."""
        self._sizes = [len(requests) for _, requests in mail]
        self._requests = [batch_of(settings.WEB_BIND, self.tokens[project], requests) for project, requests in mail]

    def accept(self, asked: list[float]) -> None:
        """Have all accepted; `asked` gets the time of each message's request. Raises BenchError for a refusal."""
        spent = cpu_seconds(self.web.pid)
        pace = self.plan.pace / self.plan.batch
        target = Target(settings.WEB_BIND, "", self.plan.traffic.body_bytes, self.plan.connections, pace=pace)
        times = run_through(target, self._requests)
        asked += [at for at, size in zip(times, self._sizes, strict=True) for _ in range(size)]
        self.web_seconds = cpu_seconds(self.web.pid) - spent


@contextmanager
def feeding(plan: Plan, projects: Sequence[Project], folder: Path) -> Iterator[Calls | Requests]:
    """What accepts; the web process runs as long as it does."""
    if not plan.http:
        yield Calls(plan, projects)
        return
    tokens = [key_of(project) for project in projects]
    with Process(["run_web"], {}, folder) as web:
        await_web(web)
        yield Requests(plan, tokens, web)
