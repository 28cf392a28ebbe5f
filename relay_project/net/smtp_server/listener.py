"""A listening socket that is wanted for good: a port that is busy is tried again until it is free (lesson C18)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from relay_project.net.smtp_server.model import Service

FIRST_PAUSE_SECONDS = 1.0  # doubles with each failure
LONGEST_PAUSE_SECONDS = 15.0
LOOK_SECONDS = 5.0  # between looks whether it still listens
BACKLOG = 512

log = structlog.get_logger(__name__)


class Listener:
    """One address and port of a service. `trouble` says why nobody can connect, empty when all is well."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        self.service, self.host, self.port = service, host, port
        self.trouble = "not tried yet"
        self.first_pause_seconds = FIRST_PAUSE_SECONDS
        self._server: asyncio.Server | None = None

    @property
    def where(self) -> str:
        """`127.0.0.1:25`, as settings write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def run(self, make_protocol: Callable[[], asyncio.BaseProtocol], tried: Callable[[], None]) -> None:
        """Listen until cancelled; `tried` is told of each try."""
        pause = self.first_pause_seconds
        while True:
            try:
                await self._open(make_protocol)
                pause = self.first_pause_seconds
            except OSError as error:
                self.trouble = f"{self.where} cannot be listened on: {error.strerror or error}"
                log.error(
                    "smtp.cannot_listen", service=self.service, where=self.where, error=str(error), again_in=pause
                )
            tried()
            if self._server is not None and self._server.is_serving():
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _open(self, make_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Listen, unless it does already."""
        if self._server is not None and self._server.is_serving():
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            make_protocol, self.host, self.port, backlog=BACKLOG, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.trouble = ""
        log.info("smtp.listening", service=self.service, where=self.where)

    def close(self) -> None:
        """Listen no more; what was connected stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.trouble = "closed"
