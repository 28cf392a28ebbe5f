"""The staff admin site."""

from typing import Any

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.http import HttpRequest


class AdminConfig(DjangoAdminConfig):
    """Django's admin under our own name, so that the site can be replaced in one place."""


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the admin's first page shows."""
    return context
