"""Tables of the sending floor."""

from sending.models.attempt import Attempt, AttemptRecipient, AttemptStatus
from sending.models.forgotten import ForgottenDay
from sending.models.idempotency import IdempotencyRecord
from sending.models.inbound import (
    Correlation,
    Feedback,
    FeedbackType,
    InboundKind,
    InboundMail,
    InboundState,
    UnreadMail,
)
from sending.models.operation import Measurement, Operation, OperationKind
from sending.models.routing import InboundRoute, ReceivedMail, ReceivingDomain, RouteAction, UnexaminedMail
from sending.models.sandbox import SandboxMessage
from sending.models.search import SearchText
from sending.models.send import (
    WAITING_STATUSES,
    Content,
    Priority,
    Recipient,
    RecipientStatus,
    RecipientType,
    Send,
    SendTag,
    Signature,
)
from sending.models.soft_bounce import SoftBounce
from sending.models.statistics import INSTANCE, Counters, DayCount, Dimension, HourCount, ReaderPosition
from sending.models.suppression import MAX_LIST, Suppression, SuppressionReason
from sending.models.waiting import TEST_LANE, Phase, Waiting

__all__ = [
    "INSTANCE",
    "MAX_LIST",
    "TEST_LANE",
    "WAITING_STATUSES",
    "Attempt",
    "AttemptRecipient",
    "AttemptStatus",
    "Content",
    "Correlation",
    "Counters",
    "DayCount",
    "Dimension",
    "Feedback",
    "FeedbackType",
    "ForgottenDay",
    "HourCount",
    "IdempotencyRecord",
    "InboundKind",
    "InboundMail",
    "InboundRoute",
    "InboundState",
    "Measurement",
    "Operation",
    "OperationKind",
    "Phase",
    "Priority",
    "ReaderPosition",
    "ReceivedMail",
    "ReceivingDomain",
    "Recipient",
    "RecipientStatus",
    "RecipientType",
    "RouteAction",
    "SandboxMessage",
    "SearchText",
    "Send",
    "SendTag",
    "Signature",
    "SoftBounce",
    "Suppression",
    "SuppressionReason",
    "UnexaminedMail",
    "UnreadMail",
    "Waiting",
]
