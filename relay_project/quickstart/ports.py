"""Ports on loopback: the usual ones where they are free, others where not."""

import contextlib
import socket
from collections.abc import Iterator, Mapping

LOOPBACK = "127.0.0.1"
# Setting → port that a run prefers. Each process's probes, the console, and the two servers of the sandbox,
# and the SMTP server, whose ports are those of the trade with a 2 in front; 2525 was taken.
USUAL = {
    "WEB_BIND": 8000,
    "LIVE_BIND": 8001,
    "SANDBOX_SMTP": 2525,
    "SANDBOX_DNS": 5354,
    "PROBE_WEB": 9101,
    "PROBE_SENDERS": 9102,
    "PROBE_WEBHOOKS": 9103,
    "PROBE_HOUSEKEEPING": 9104,
    "PROBE_SANDBOX": 9105,
    "PROBE_SMTP": 9106,
    "PROBE_LIVE": 9107,
    "SMTP_MX": 2526,
    "SMTP_SUBMISSION": 2587,
    "SMTP_SUBMISSIONS": 2465,
}
WITH_UDP = {"SANDBOX_DNS"}


def is_free(port: int, udp: bool = False) -> bool:
    """Return whether one can listen on that port of loopback."""
    with contextlib.ExitStack() as held:
        return bool(_try_hold(held, port, udp))


def choose_ports(preferred: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name: the preferred one (0: any), or another free one where that is taken.

    All are held until all are chosen, so that no two names get the same.
    """
    with contextlib.ExitStack() as held:
        return {name: _hold(held, port, name in WITH_UDP) for name, port in preferred.items()}


def _hold(held: contextlib.ExitStack, wanted: int, udp: bool) -> int:
    return next(port for candidate in _candidates(wanted) if (port := _try_hold(held, candidate, udp)))


def _candidates(wanted: int) -> Iterator[int]:
    yield wanted
    while True:  # any; TCP's choice may be taken for UDP, so it may take several
        yield 0


def _try_hold(held: contextlib.ExitStack, port: int, udp: bool) -> int | None:
    """Bind the port until `held` closes; return it, or None when it is taken."""
    with contextlib.ExitStack() as bound:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) if udp else (socket.SOCK_STREAM,):
            sock = bound.enter_context(socket.socket(socket.AF_INET, kind))
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                return None
            port = sock.getsockname()[1]
        held.enter_context(bound.pop_all())
    return port
