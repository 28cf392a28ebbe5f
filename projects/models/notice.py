"""Notices: what people are told by mail, written in the transaction of what it is about, and sent soon after."""

from django.db import models
from django.db.models.functions import Now

from projects.models.project import Project


class Notice(models.Model):
    """Something that the people of a project, or (without one) staff, should know."""

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="notices", help_text="Null: for staff."
    )
    scope = models.CharField(max_length=32, blank=True, help_text="Who can do something about it.")
    key = models.CharField(max_length=120, help_text="Of the same nobody is told twice within a day.")
    subject = models.CharField(max_length=255)
    text = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, help_text="Null: it waits to be sent.")

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("key", "created_at"), name="notice_key"),
            models.Index(fields=("id",), condition=models.Q(sent_at=None), name="notice_unsent"),
            models.Index(fields=("project", "sent_at"), name="notice_last"),
        )

    def __str__(self) -> str:
        return self.subject
