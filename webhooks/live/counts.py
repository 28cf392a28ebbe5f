"""What the live stream counts."""

from relay_project.metrics import SECONDS, Counter, Gauge, Histogram

CONNECTIONS = Gauge(
    "relay_live_connections", "Streams that are open.", ["transport"], multiprocess_mode="livesum"
)  # fmt: skip
EVENTS = Counter("relay_live_events_total", "Events that were written to streams, once for each stream.", ["transport"])
REFUSED = Counter("relay_live_refused_total", "Streams that were refused, by the HTTP status.", ["status"])
CLOSED = Counter("relay_live_closed_total", "Streams that ended, by the close code; 1000: the client left.", ["code"])
LAG = Histogram(
    "relay_live_lag_seconds", "From an event's time to its being handed to the streams.", buckets=SECONDS
)  # fmt: skip
