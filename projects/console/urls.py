"""The console's pages about projects: those outside of one below /console, those of one below /console/<project_id>."""

from django.urls import path

from projects.console import activity, domain_parts, domains, joining, keys, members, settings, start
from relay_project.web.theme import choose_theme

outside = [
    path("", start.start, name="console-start"),
    path("new", start.new_project, name="console-new"),
    path("projects", start.projects, name="console-projects"),
    path("projects/<int:project_id>/restore", start.restore_project, name="console-restore"),
    path("account", start.account, name="console-account"),
    path("account/notices", start.choose_notices, name="console-notices"),
    path("invitation/<str:token>", joining.InvitationPage.as_view(), name="invitation"),
    path("memberships/<int:membership_id>/leave", joining.leave, name="console-leave"),
    path("theme", choose_theme, name="console-theme"),
]
inside = [
    path("/domains", domains.domains, name="console-domains"),
    path("/domains/new", domains.new_domain, name="console-new-domain"),
    path("/domains/<int:domain_id>", domains.one_domain, name="console-domain"),
    path("/domains/<int:domain_id>/verify", domains.verify_domain, name="console-verify-domain"),
    path("/domains/<int:domain_id>/keys", domain_parts.new_key, name="console-new-dkim-key"),
    path("/domains/<int:domain_id>/keys/<int:key_id>/delete", domain_parts.remove_key, name="console-delete-dkim-key"),
    path("/domains/<int:domain_id>/return-path", domain_parts.choose_return_path, name="console-return-path"),
    path("/domains/<int:domain_id>/delete", domains.remove_domain, name="console-delete-domain"),
    path("/keys", keys.keys, name="console-keys"),
    path("/keys/new", keys.new_key, name="console-new-key"),
    path("/keys/<int:key_id>", keys.one_key, name="console-key"),
    path("/keys/<int:key_id>/switch", keys.switch_key, name="console-switch-key"),
    path("/keys/<int:key_id>/rotate", keys.rotate, name="console-rotate-key"),
    path("/keys/<int:key_id>/delete", keys.remove_key, name="console-delete-key"),
    path("/settings", settings.project_settings, name="console-settings"),
    path("/settings/name", settings.rename, name="console-rename"),
    path("/settings/content", settings.set_content_days, name="console-content-days"),
    path("/activity", activity.activity, name="console-activity"),
    path("/members", members.members, name="console-members"),
    path("/invitations/new", members.new_invitation, name="console-invite"),
    path("/members/new", members.new_member, name="console-new-member"),
    path("/members/<int:membership_id>", members.one_member, name="console-member"),
    path("/members/<int:membership_id>/delete", members.drop_member, name="console-drop-member"),
    path("/invitations/<int:invitation_id>/resend", members.resend, name="console-resend-invitation"),
    path("/invitations/<int:invitation_id>/delete", members.take_back, name="console-withdraw-invitation"),
]
