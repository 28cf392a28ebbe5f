"""What the server counts. Each label has a handful of values, none of which a peer chooses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from relay_project.metrics import Counter, Gauge
from relay_project.net.smtp_server.model import SmtpReply

OPEN = Gauge("relay_smtp_connections_open", "Connections of the SMTP server.", ["service"], multiprocess_mode="livesum")
ENDED = Counter(
    "relay_smtp_connections_total", "Connections of the SMTP server, by how they ended.", ["service", "end"]
)
TURNED_AWAY = Counter("relay_smtp_turned_away_total", "Connections that were not served.", ["service", "reason"])
COMMANDS = Counter("relay_smtp_commands_total", "Commands by the class of their reply.", ["service", "verb", "reply"])
MAILS = Counter("relay_smtp_mails_total", "Mails that came whole, by what became of them.", ["service", "result"])
OCTETS = Counter("relay_smtp_octets_total", "Octets of mails that were taken.", ["service"])
AUTHS = Counter("relay_smtp_auths_total", "AUTH commands.", ["result"])
HANDSHAKES = Counter("relay_smtp_tls_total", "TLS handshakes, by version; failed ones.", ["service", "version"])
IN_FLIGHT = Gauge("relay_smtp_octets_in_flight", "Octets of mails on their way in.", multiprocess_mode="livesum")
DEFECTS = Counter("relay_smtp_defects_total", "Errors that nobody foresaw; the log has their tracebacks.")


@lru_cache(maxsize=1024)
def _child(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)


def count(metric: Any, *labels: str, by: float = 1) -> None:
    """Count under labels whose number is bounded; finding a metric's child costs more than counting."""
    _child(metric, *labels).inc(by)


def result_of(reply: SmtpReply) -> str:
    """`taken`, `deferred` or `refused`."""
    return "taken" if reply.is_success else "deferred" if reply.code < 500 else "refused"
