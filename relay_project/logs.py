"""Logs: one structured line an event, to standard error; readable on a terminal, JSON elsewhere."""

import json
import logging.config
import re
import sys
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson
import structlog

# Which line of code logged is not told, and finding it out costs a fifth of a log line (logging's own advice).
logging._srcfile = None

# What a terminal obeys: C0 but line feed and tab, DEL, C1.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BROKEN_LINE = re.compile(r"[\n\u2028\u2029]")
_MANY_LINES = frozenset({"exception", "stack"})  # keys whose values are our own tracebacks


class StandardError(logging.StreamHandler[Any]):
    """Writes to what sys.stderr is at the moment, not to what it was when logging was set up."""

    @property
    def stream(self) -> Any:
        """The present standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        """There is nothing to keep."""


def configure(options: dict[str, Any]) -> None:
    """Set up structlog and the standard library's loggers (Django's LOGGING_CONFIG).

    Options: level; human; cache, which makes loggers quick and deaf to a later change.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    human = options["human"]
    renderers: list[Any] = [_for_terminals, structlog.dev.ConsoleRenderer(colors=True)] if human else []
    renderers = renderers or [structlog.processors.JSONRenderer(serializer=_json)]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
                    "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder(), _without_request],
                }
            },
            "filters": {"defects": {"()": lambda: _is_defect}},
            "handlers": {"stderr": {"()": StandardError, "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": options["level"]},
            "loggers": {
                "django.server": {"handlers": ["stderr"], "propagate": False},
                # procrastinate logs a line a job at INFO; a wake-up is not news.
                "procrastinate": {"level": max(logging.WARNING, logging.getLevelName(options["level"]))},
                "asyncio": {"level": "WARNING"},
                # The request log tells every status by route; these would tell it by path, and a path can be a secret
                # (one-time links).
                "django.request": {"level": "ERROR", "filters": ["defects"]},
                "django.security.csrf": {"level": "ERROR"},
            },
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=options.get("cache", False),
    )


def _json(event: MutableMapping[str, Any], default: Callable[[Any], Any], **_: Any) -> str:
    """The quick way, where that gives ASCII: beyond it json escapes what commands a terminal or breaks a line."""
    try:
        line = orjson.dumps(event, default=default)
    except TypeError:  # lone surrogates, numbers of more than 64 bits, keys that are no text
        return json.dumps(event, default=default)
    return line.decode() if line.isascii() else json.dumps(event, default=default)


def _is_defect(record: logging.LogRecord) -> bool:
    """Not a mailbox that is full: that is its receiver's matter, and an error is what people are woken for."""
    return getattr(record, "status_code", None) != HTTPStatus.INSUFFICIENT_STORAGE


def _without_request(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Django hands its logger the request, whose text holds the query string, and writes the path (lesson S9).

    A path can be a secret (one-time links): the route stands in for it, as in the request log.
    """
    request = event.pop("request", None)
    path = getattr(request, "path", "")
    if len(path) > 1:
        match = getattr(request, "resolver_match", None)
        route = f"/{match.route}" if match else "an unknown path"
        for spelling in (path, path.encode("unicode_escape").decode("ascii")):
            event["event"] = str(event["event"]).replace(spelling, route)
    return event


def _for_terminals(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What strangers wrote must neither begin a line of its own nor command the terminal; JSON escapes it anyway."""
    for key, value in event.items():
        if isinstance(value, str):
            shown = _CONTROLS.sub(_escaped, value)
            event[key] = shown if key in _MANY_LINES else _BROKEN_LINE.sub(_escaped, shown)
    return event


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
