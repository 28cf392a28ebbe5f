"""The API's URLs of this floor, under /api/console/ and, for staff, under /api/sudo/."""

from django.urls import path

from projects.api.activity import AuditLogView
from projects.api.domain_reports import DomainReportsView
from projects.api.domains import DomainByView, DomainsView, VerifyDomainView
from projects.api.invitations import AcceptInvitationView, InvitationsView, InvitationView, SendAgainView
from projects.api.keys import ApiKeysView, ApiKeyView, RotateKeyView
from projects.api.life import RestoreView
from projects.api.limits import LimitsView
from projects.api.members import MembershipsView, MembershipView, ProjectUsersView, ProjectUserView, RolesView
from projects.api.one_domain import (
    CheckDomainView,
    DkimKeysView,
    DkimKeyView,
    DnsView,
    DomainView,
    VerifyDkimKeyView,
)
from projects.api.projects import InitProjectView, InitView, ProjectView
from projects.api.staff import PeopleView, PersonView, StaffAuditView, StaffInitView, StaffKeysView, StaffKeyView
from projects.api.staff_life import ResumeProjectView, StaffLimitsView, StaffRestoreView, SuspendProjectView
from projects.api.staff_projects import (
    OrganisationsView,
    ReinstateDomainView,
    StaffDomainsView,
    StaffProjectsView,
    StaffProjectView,
    SuspendDomainView,
)

urlpatterns = [
    path("init", InitView.as_view()),
    path("init/project", InitProjectView.as_view()),
    path("project", ProjectView.as_view()),
    path("project/limits", LimitsView.as_view()),
    path("project/restore", RestoreView.as_view()),
    path("project-users", ProjectUsersView.as_view()),
    path("project-users/<str:member_id>", ProjectUserView.as_view()),
    path("invitations", InvitationsView.as_view()),
    path("invitations/accept", AcceptInvitationView.as_view()),
    path("invitations/<str:invitation_id>", InvitationView.as_view()),
    path("invitations/<str:invitation_id>/resend", SendAgainView.as_view()),
    path("audit-log", AuditLogView.as_view()),
    path("roles", RolesView.as_view()),
    path("memberships", MembershipsView.as_view()),
    path("memberships/<str:member_id>", MembershipView.as_view()),
    path("api-keys", ApiKeysView.as_view()),
    path("api-keys/<str:key_id>", ApiKeyView.as_view()),
    path("api-keys/<str:key_id>/rotate", RotateKeyView.as_view()),
    path("domains", DomainsView.as_view()),
    path("domains/by", DomainByView.as_view()),
    path("domains/verify", VerifyDomainView.as_view()),
    path("domains/<str:domain>", DomainView.as_view()),
    path("domains/<str:domain>/dns", DnsView.as_view()),
    path("domains/<str:domain>/check", CheckDomainView.as_view()),
    path("domains/<str:domain>/reports", DomainReportsView.as_view()),
    path("domains/<str:domain>/dkim-keys", DkimKeysView.as_view()),
    path("domains/<str:domain>/dkim-keys/<str:key_id>", DkimKeyView.as_view()),
    path("domains/<str:domain>/dkim-keys/<str:key_id>/verify", VerifyDkimKeyView.as_view()),
]

staff_urlpatterns = [
    path("init", StaffInitView.as_view()),
    path("users", PeopleView.as_view()),
    path("users/<str:user_id>", PersonView.as_view()),
    path("staff-keys", StaffKeysView.as_view()),
    path("staff-keys/<str:key_id>", StaffKeyView.as_view()),
    path("audit-log", StaffAuditView.as_view()),
    path("projects", StaffProjectsView.as_view()),
    path("projects/organizations", OrganisationsView.as_view()),
    path("projects/<str:project_id>", StaffProjectView.as_view()),
    path("projects/<str:project_id>/limits", StaffLimitsView.as_view()),
    path("projects/<str:project_id>/suspend", SuspendProjectView.as_view()),
    path("projects/<str:project_id>/resume", ResumeProjectView.as_view()),
    path("projects/<str:project_id>/restore", StaffRestoreView.as_view()),
    path("domains", StaffDomainsView.as_view()),
    path("domains/<str:domain_id>/suspend", SuspendDomainView.as_view()),
    path("domains/<str:domain_id>/reinstate", ReinstateDomainView.as_view()),
]
