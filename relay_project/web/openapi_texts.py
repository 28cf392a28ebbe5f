"""The words of the OpenAPI document that belong to no single endpoint."""

from collections.abc import Mapping

INTRODUCTION = """\
JSON over HTTP. Success is always 200. Times are Unix seconds (UTC), ids are integers below 2^53. Fields of a body that
are not known are ignored; form-encoded bodies are taken, too.

**Authentication.** `Authorization: Bearer <key>` with an API key of a project. Without that header the request is a
person's: the session's cookie and `X-Project-ID`.

**Errors** have one shape: `message`, `status`, and where fields are to blame `violations` (a list) and `errors` (the same
by field). 401 and 403 say what is missing, 404 that an object is not there, 422 what is wrong with which field.

**Idempotency.** Sending takes `X-Idempotency-Key` (or `Idempotency-Key`): the same key with the same body within 24 hours
sends once. Every other endpoint refuses the header with 400.
"""

# Tag → what stands in it, in the order of the page.
SECTIONS: Mapping[str, str] = {
    "Sends": "Accepting mail, and what became of it.",
    "Domains": "The domains that a project sends from, and their DKIM keys.",
    "Suppressions": "Addresses that are not written to.",
    "Inbound": "Mail that a project receives.",
    "Webhooks": "Who is told what happened.",
    "Live stream": "Events as they happen.",
    "Mailboxes": "Places from which receivers fetch what they are told; `/v1/mailbox/` itself is described in the docs.",
    "Analytics": "Numbers about what was sent.",
    "API keys": "What programs authenticate with.",
    "Projects": "The project, and the people in it.",
    "Console": "What a console asks when it starts.",
    "Staff": "Running the installation; for staff only.",
    "Others": "Whether the service is there, and this document.",
}

# Status → (name of the shared response, what it means).
REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("BadRequest", "The request cannot be read, or a rule forbids it."),
    401: ("Unauthorized", "Neither an API key nor a session."),
    403: ("Forbidden", "The key or the person may not do this, or the object is another project's."),
    404: ("NotFound", "Entity not found"),
    405: ("MethodNotAllowed", "Method not allowed."),
    409: ("Conflict", "The request contradicts what is there."),
    411: ("LengthRequired", "A Content-Length is required."),
    413: ("TooLarge", "The request is too large."),
    415: ("UnsupportedFormat", "Unsupported format."),
    422: ("Unprocessable", "A field is missing, of a wrong type or out of its bounds."),
    429: ("TooManyRequests", "Rate limit exceeded. Please try again later in 12 seconds."),
    500: ("Failed", "Internal Server Error. Our team has been notified."),
    502: ("BadAnswer", "Another server that was asked did not answer as it should."),
    503: ("Unavailable", "The service is temporarily unavailable. Please try again."),
    504: ("NoAnswer", "Another server that was asked did not answer in time."),
}

HEADERS: Mapping[str, str] = {
    "X-RateLimit-Limit": "How many requests the window allows.",
    "X-RateLimit-Remaining": "How many of them are left.",
    "X-RateLimit-Reset": "Seconds until the window ends; 0 while nothing is limited.",
    "Retry-After": "Seconds to wait.",
}
