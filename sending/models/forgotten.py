"""Days whose content has left before its time, because a project keeps it for less."""

from django.db import models


class ForgottenDay(models.Model):
    """One project's day. Where something had to stay (mail that waits), it is looked at again."""

    project_id = models.BigIntegerField()
    day = models.DateField()
    kept_back = models.IntegerField(default=0, help_text="Contents of mail that waits or was scheduled.")
    looked_at = models.DateTimeField()

    class Meta:
        ordering = ("-day", "project_id")
        constraints = (models.UniqueConstraint(fields=("project_id", "day"), name="forgotten_project_day"),)

    def __str__(self) -> str:
        return f"{self.day} of project {self.project_id}"
