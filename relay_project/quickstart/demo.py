"""The demo project: made by the first run, found again by the next."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import User
from accounts.sign_in import make_link
from ips.register import register_host
from projects.api_keys import create_key, hash_token
from projects.domain_status import verify
from projects.domains import create_domain
from projects.models import ApiKey, Domain, DomainStatus, Membership, Project, SendType
from projects.models.domain import MAY_SEND
from projects.scopes import SCOPES
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project.quickstart.home import Home, QuickstartError, write_private
from relay_project.web.errors import ApiError

PROJECT_NAME = "Demo"
DOMAIN = "demo.test"
LOGIN = "you@relay.test"
KEY_NAME = "Quickstart"
KEY_SCOPES = SCOPES  # every example of docs/api.md runs with it
LOCAL_CLIENTS = ("127.0.0.0/24", "::1")
LINK_MINUTES = 60  # longer than the usual quarter of an hour: one reads first what was printed


@dataclass(frozen=True, slots=True)
class Demo:
    """What the newcomer is given."""

    project: Project
    domain: Domain
    user: User
    api_key: str


def make_instance(now: datetime) -> None:
    """Have the queues, this host's addresses, and the system project with the instance domain's key."""
    ensure_queues()
    register_host(now)
    ensure_instance()


def make_demo(home: Home, now: datetime) -> Demo:
    """Have a staff person, a project of theirs, a domain verified by DNS, and an API key; raises QuickstartError."""
    user = User.objects.filter(login=LOGIN).first() or _make_person()
    member = Membership.objects.filter(user=user, project__name=PROJECT_NAME).select_related("project").first()
    project = member.project if member else _make_project(user)
    return Demo(project, _verified_domain(project, now), user, _api_key(home, project))


def sign_in_link(demo: Demo, base_url: str, now: datetime) -> str:
    """Return a link that signs the demo's person in once."""
    return base_url + make_link(demo.user, now, minutes=LINK_MINUTES)


def _make_person() -> User:
    user = User(login=LOGIN, email=LOGIN, name="Demo person", is_staff=True)
    user.set_unusable_password()  # comes by a link, and may choose a password then without knowing an old one
    user.save()
    return user


def _make_project(user: User) -> Project:
    project = Project.objects.create(name=PROJECT_NAME, send_type=SendType.TRANSACTIONAL)
    Membership.objects.create(user=user, project=project, scopes=[scope.value for scope in SCOPES])
    return project


def _verified_domain(project: Project, now: datetime) -> Domain:
    domain = Domain.objects.filter(project=project, domain=DOMAIN).first() or create_domain(project, DOMAIN)
    if domain.status == DomainStatus.PENDING:
        try:
            verify(domain, now)
        except ApiError as error:
            raise QuickstartError(f"{DOMAIN} could not be verified: {error}") from error
        domain.refresh_from_db()
    if domain.status not in MAY_SEND:
        raise QuickstartError(f"{DOMAIN} may not send, it is {domain.status}: {domain.dkim_error_message}")
    return domain


def _api_key(home: Home, project: Project) -> str:
    """Return the kept token if its key still works here, else a new one's; only the home has it in clear."""
    path = home.folder / "api-key"
    token = path.read_text().strip() if path.exists() else ""
    keys = ApiKey.objects.filter(project=project)
    if not keys.filter(key_hash=hash_token(token), is_enabled=True).exists():
        keys.filter(name=KEY_NAME).delete()
        _, token = create_key(project, KEY_NAME, KEY_SCOPES, LOCAL_CLIENTS)
        write_private(path, token + "\n")
    return token
