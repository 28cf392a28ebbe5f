"""A CSV that is written while it is sent, whatever its length."""

from collections.abc import Iterator
from datetime import datetime

from django.http import StreamingHttpResponse


def csv_response(pieces: Iterator[str], name: str, now: datetime) -> StreamingHttpResponse:
    """The pieces as a file to be saved, called `<name>-<day>.csv`."""
    response = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}-{now:%Y-%m-%d}.csv"'
    return response
