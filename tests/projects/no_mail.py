"""An EMAIL_BACKEND that fails."""

from typing import Any

from django.core.mail.backends.base import BaseEmailBackend


class Backend(BaseEmailBackend):
    """Sends nothing."""

    def send_messages(self, email_messages: Any) -> int:
        """Fail."""
        raise ConnectionRefusedError
