"""`/api/health` of the web process."""

from django.http import HttpRequest, JsonResponse


def alive(request: HttpRequest) -> JsonResponse:
    """The process answers; the database is not asked, so that its absence restarts nobody."""
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
