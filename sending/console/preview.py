"""Showing mail without trusting it: an HTML body runs nothing, asks nobody and reaches nothing of the console."""

from django.http import HttpResponse

# `sandbox` makes the document a stranger to our origin, also when somebody opens its address by itself.
_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src {images}; font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_HEAD = '<!doctype html><meta charset="utf-8"><base target="_blank"><style>body{background:#fff}</style>'


def html_document(body_html: str, *, with_images: bool = False) -> HttpResponse:
    """The body as a document of its own; remote images only when asked for, since they tell the sender who looks."""
    response = HttpResponse(_HEAD + body_html)
    images = "data: https:" if with_images else "data:"
    response["Content-Security-Policy"] = _POLICY.format(images=images)
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex"
    return response


def mail_file(raw: bytes, name: str) -> HttpResponse:
    """A message to save. `name` is ours, not the mail's."""
    response = HttpResponse(raw, content_type="message/rfc822")
    response["Content-Disposition"] = f'attachment; filename="{name}.eml"'
    return response
