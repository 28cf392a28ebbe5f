"""Model fields of the shared floor."""

from typing import TYPE_CHECKING, Any

from django.db import models

from relay_project.db import keyring

if TYPE_CHECKING:
    TextField = models.TextField[str, str]
else:
    TextField = models.TextField


class EncryptedTextField(TextField):
    """Text that is encrypted at rest by the key ring: a row's plain value exists only in memory.

    It cannot be filtered by value, and its lists of values are for `rotate_secrets` alone.
    """

    def get_prep_value(self, value: Any) -> Any:
        """The Fernet token that goes into the database."""
        return None if value is None else keyring.encrypt(str(value))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        """The plain text; raises UndecryptableSecret when its key left the ring."""
        return None if value is None else keyring.decrypt(value)
