"""A connector for calls of strangers: it takes few interim answers (1xx, RFC 9110 §15.2) before the answer itself.

aiohttp passes over any number of them, and each is parsed in the event loop of all calls and kept until it is looked at: a
receiver that sends nothing else would cost all others their time, and the process its memory, for as long as a call may
take. The version is pinned: this leans on its inside.
"""

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

MOST_HEADS = 10  # of one call: interim answers, and the answer
TOO_MANY = "The answer did not come: there were interim ones without end."


class TooManyHeads(aiohttp.ClientConnectionError):
    """The receiver sends interim answers without end."""


class Connector(aiohttp.TCPConnector):
    """The library's, with the protocol below."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(FewHeads, loop=self._loop)


class FewHeads(ResponseHandler):
    """One connection."""

    def set_response_params(self, **options: Any) -> None:
        """A call begins."""
        self._heads = 0
        super().set_response_params(**options)

    async def read(self) -> tuple[RawResponseMessage, StreamReader]:
        """The next answer, interim or not; raises TooManyHeads."""
        self._heads += 1
        if self._heads > MOST_HEADS:
            raise TooManyHeads(TOO_MANY)
        return await super().read()
