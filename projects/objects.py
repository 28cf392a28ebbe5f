"""The contract's objects of this floor, as plain values for JSON; the API and the events show the same ones."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts.models import User
from projects.dkim_keys import dkim_host, dkim_txt_value, published_keys
from projects.keeping import content_days
from projects.models import ApiKey, DkimKey, Domain, Invitation, Membership, Project
from projects.roles import role_of


def timestamp(moment: datetime | None) -> int | None:
    """Unix seconds."""
    return None if moment is None else int(moment.timestamp())


def project_object(project: Project) -> dict[str, Any]:
    """Project; `content_days`, `status` and `suspend_reason` are ours."""
    return {
        "id": project.pk,
        "created_at": timestamp(project.created_at),
        "name": project.name,
        "send_type": str(project.send_type),
        "content_days": content_days(project),
        "status": "archived" if project.archived_at else "suspended" if project.suspended_at else "active",
        "suspend_reason": project.suspend_reason or None,
    }


def api_key_object(key: ApiKey, token: str | None = None) -> dict[str, Any]:
    """ApiKey; `token` only in the answer that creates it. `role` and `expires_at` are ours."""
    return {
        "id": key.pk,
        "name": key.name,
        "scopes": list(key.scopes),
        "role": role_of(key.scopes),
        "allowed_ips": list(key.allowed_ips),
        "key": token,
        "created_at": timestamp(key.created_at),
        "is_enabled": key.is_enabled,
        "is_test": key.is_test,
        "last_accessed_at": timestamp(key.last_accessed_at),
        "expires_at": timestamp(key.expires_at),
    }


def domain_object(domain: Domain, key: DkimKey) -> dict[str, Any]:
    """Domain, with the record of its current key; `return_path` is ours."""
    return {
        "id": domain.pk,
        "created_at": timestamp(domain.created_at),
        "domain": domain.domain,
        "status": str(domain.status),
        "status_changed_at": timestamp(domain.status_changed_at),
        "dkim_selector": key.selector,
        "dkim_host": dkim_host(key),
        "dkim_public_key": key.public_key,
        "dkim_txt_value": dkim_txt_value(key),
        "dkim_checked_at": timestamp(domain.dkim_checked_at),
        "dkim_error_message": domain.dkim_error_message,
        "return_path": _return_path_object(domain),
    }


def _return_path_object(domain: Domain) -> dict[str, Any] | None:
    if domain.return_path is None:
        return None
    return {
        "host": domain.return_path,
        "status": str(domain.return_path_status),
        "checked_at": timestamp(domain.return_path_checked_at),
        "error_message": domain.return_path_error_message,
    }


def dkim_key_object(key: DkimKey) -> dict[str, Any]:
    """A DKIM key; the contract has none."""
    return {
        "id": key.pk,
        "state": str(key.state),
        "algorithm": str(key.algorithm),
        "is_current": key.is_current,
        "selector": key.selector,
        "dkim_host": dkim_host(key),
        "dkim_txt_value": dkim_txt_value(key),
        "created_at": timestamp(key.created_at),
        "activated_at": timestamp(key.activated_at),
        "retires_at": timestamp(key.retires_at),
        "checked_at": timestamp(key.checked_at),
        "error_message": key.error_message,
    }


def domain_objects(domains: Iterable[Domain]) -> list[dict[str, Any]]:
    """Domains with their keys, in one more query."""
    domains = list(domains)
    keys = published_keys([domain.pk for domain in domains])
    return [domain_object(domain, keys[domain.pk]) for domain in domains]


def user_object(user: User) -> dict[str, Any]:
    """The person inside a ProjectUser."""
    return {
        "id": user.pk,
        "name": user.name,
        "email": user.email or user.login or "",
        "username": user.login,
        "picture_url": user.picture_url or None,
        "oidc_sub": None,
    }


def invitation_object(invitation: Invitation, now: datetime) -> dict[str, Any]:
    """An invitation, of ours; never its link."""
    return {
        "id": invitation.pk,
        "created_at": timestamp(invitation.created_at),
        "email": invitation.email,
        "scopes": list(invitation.scopes),
        "role": role_of(invitation.scopes),
        "invited_by": invitation.invited_by_label,
        "sent_at": timestamp(invitation.sent_at),
        "expires_at": timestamp(invitation.expires_at),
        "is_expired": invitation.expires_at <= now,
    }


def found_person_object(user: User) -> dict[str, Any]:
    """A person that a search found: the contract's organisation member, of whose roles an installation has one."""
    return {
        "id": user.pk,
        "role": "admin",
        "user_id": user.pk,
        "user_username": user.login,
        "user_email": user.email or user.login or "",
        "user_picture_url": user.picture_url or None,
        "user_name": user.name,
    }


def project_user_objects(memberships: Iterable[Membership]) -> list[dict[str, Any]]:
    """ProjectUsers; the memberships come with project, user and the user's identities."""
    return [project_user_object(membership) for membership in memberships]


def project_user_object(membership: Membership) -> dict[str, Any]:
    """ProjectUser; `role` is ours."""
    subjects = [identity.subject for identity in membership.user.identities.all()]
    return {
        "id": membership.pk,
        "created_at": timestamp(membership.created_at),
        "scopes": list(membership.scopes),
        "role": role_of(membership.scopes),
        "user": user_object(membership.user),
        "oidc_sub": subjects[0] if subjects else None,
        "project": project_object(membership.project),
    }
