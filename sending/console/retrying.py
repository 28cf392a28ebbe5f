"""Trying again from a send's page: the form, and what the person is told afterwards. The rule is `sending.retry`."""

from collections.abc import Sequence
from datetime import datetime

from django import forms

from sending.models import Phase, Recipient, RecipientStatus, Send, Waiting
from sending.retry import IN_THE_PAST, TOO_FAR, RetryRefused, retry

OF_THE_TIME = {
    IN_THE_PAST: "This time is past. Leave it empty to try at once.",
    TOO_FAR: "At most 30 days ahead.",
}


class RetryForm(forms.Form):
    """Which of the recipients that were given up are tried again, and not before when."""

    recipients = forms.TypedMultipleChoiceField(
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one recipient.", "invalid_choice": "One of them is not to retry."},
    )
    not_before = forms.DateTimeField(
        required=False,
        label="Not before",
        error_messages={"invalid": "This is not a date and time."},
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "aria-describedby": "id_not_before_help"}),
    )

    def __init__(self, failed: Sequence[Recipient], data: object = None) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        choices = [(recipient.pk, recipient.address) for recipient in failed]
        self.fields["recipients"].choices = choices  # type: ignore[attr-defined]
        self.fields["recipients"].initial = [pk for pk, _ in choices]

    def revive(self, send: Send, now: datetime) -> str:
        """Let the chosen ones wait anew; what to tell the person. Raises RetryRefused; a time's refusal is the form's."""
        at: datetime | None = self.cleaned_data["not_before"]
        try:
            count = retry(send, now, None if at is None else int(at.timestamp()), self.cleaned_data["recipients"])
        except RetryRefused as refused:
            if str(refused) not in OF_THE_TIME:
                raise
            self.add_error("not_before", OF_THE_TIME[str(refused)])
            return ""
        if not count and Waiting.objects.filter(send_id=send.pk).exists():  # again, since the page was made
            return "This send waits already. It was made due now, and its recipients were left as they are."
        if not count:
            return "Nothing is tried again: these addresses have been suppressed since."
        when = "now" if at is None else f"at {at:%d %b %Y, %H:%M} UTC"
        return f"{_people(count)} will be tried again {when}."


def may_hurry(send: Send) -> bool:
    """Whether anything waits for a time, so that it can be brought forward."""
    return Waiting.objects.filter(send_id=send.pk, phase=Phase.LATER, attempt_id=None).exists()


def hurry(send: Send, now: datetime) -> str:
    """Make what waits for a time due now; what to tell the person, or "" when nothing waited. Raises RetryRefused."""
    if not may_hurry(send):
        return ""
    retry(send, now)
    return "What waited is due now. It leaves as soon as a sender has room."


def failed_of(recipients: Sequence[Recipient]) -> list[Recipient]:
    """Those that were given up, if none of the send waits: while one does, the others are not tried again."""
    waits = (RecipientStatus.QUEUED, RecipientStatus.DEFERRED)
    if any(recipient.status in waits for recipient in recipients):
        return []
    return [recipient for recipient in recipients if recipient.status == RecipientStatus.FAILED]


def _people(count: int) -> str:
    return "1 recipient" if count == 1 else f"{count} recipients"
