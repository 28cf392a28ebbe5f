"""Octets of strangers as a file: to be saved, never to be shown."""

from django.http import HttpResponse
from django.utils.http import content_disposition_header


def octets_response(octets: bytes, content_type: str, name: str) -> HttpResponse:
    """A file to save, which no browser is to show: what strangers sent must not run at our origin."""
    response = HttpResponse(octets, content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response
