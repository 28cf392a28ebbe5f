"""Tables of the projects floor."""

from projects.models.api_key import ApiKey
from projects.models.domain import DkimAlgorithm, DkimKey, DkimKeyState, Domain, DomainStatus, ReturnPathStatus
from projects.models.event import Event, EventOutbox, FeedPosition
from projects.models.former_secret import FormerSecret
from projects.models.invitation import Invitation
from projects.models.notice import Notice
from projects.models.project import Membership, Project, SendType, Suspension
from projects.models.report import DomainReport, DomainReportKind

__all__ = [
    "ApiKey",
    "DkimAlgorithm",
    "DkimKey",
    "DkimKeyState",
    "Domain",
    "DomainReport",
    "DomainReportKind",
    "DomainStatus",
    "Event",
    "EventOutbox",
    "FeedPosition",
    "FormerSecret",
    "Invitation",
    "Membership",
    "Notice",
    "Project",
    "ReturnPathStatus",
    "SendType",
    "Suspension",
]
