"""Connections of their own, apart from Django's: for session locks and LISTEN, which no transaction pooler carries."""

from typing import Any

from django.conf import settings
from django.db import connection

KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def direct_parameters(name: str) -> dict[str, Any]:
    """Parameters of a connection that keeps its session: DATABASE_DIRECT_URL behind a pooler, else the ordinary ones.

    `name` is what pg_stat_activity shows.
    """
    parameters = connection.get_connection_params() if not settings.DATABASE_DIRECT_URL else {}
    wanted = {key: parameters[key] for key in ("dbname", "user", "password", "host", "port") if parameters.get(key)}
    wanted |= {key: value for key, value in parameters.items() if key.startswith("ssl")}
    if settings.DATABASE_DIRECT_URL:
        wanted["conninfo"] = settings.DATABASE_DIRECT_URL
    return {**wanted, **KEEPALIVES, "application_name": name, "connect_timeout": 5}
