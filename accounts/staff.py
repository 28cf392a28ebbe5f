"""Who is staff: found by login, e-mail address or id; granted and revoked with an audit entry, never silently."""

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User
from relay_project.mail.address import parse_mailbox
from relay_project.mail.text import clean


class NoSuchPerson(LookupError):
    """Nobody has this login, e-mail address or id."""


class SeveralPeople(LookupError):
    """An e-mail address identifies nobody: several people have this one."""

    def __init__(self, people: list[User]) -> None:
        super().__init__("several people fit")
        self.people = people


class NotActive(ValueError):
    """A person who is switched off cannot become staff."""


def find_person(text: str) -> User:
    """The one person with this id (digits), local login or e-mail address; raises NoSuchPerson, SeveralPeople."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        query = Q(pk=int(text)) if len(text) < 19 else Q(pk=None)  # 19 digits may not fit a bigint
    else:
        query = Q(login=text.casefold()) | Q(email__iexact=text)
    people = list(User.objects.filter(query).prefetch_related("identities"))
    if not people:
        raise NoSuchPerson(text)
    if len(people) > 1:
        raise SeveralPeople(people)
    return people[0]


def create_local(
    login: str, name: str = "", *, actor: User | None = None, actor_label: str = "", by: str = "login"
) -> User:
    """A new person with a local login, which is an address, and no password; raises InvalidAddress, IntegrityError."""
    mailbox = parse_mailbox(login.strip())
    with transaction.atomic():
        address = mailbox.address.casefold()
        person = User(login=address, email=address, name=clean(name, 255).strip() or mailbox.local)
        person.set_unusable_password()
        person.save(force_insert=True)
        audit.record("person.created", actor=actor, subject=person, detail={"by": by}, actor_label=actor_label)
    return person


def grant(
    person: User, *, actor: User | None, actor_label: str = "", address: str | None = None, reason: str = ""
) -> bool:
    """Make a person staff; False when they were already. Raises NotActive."""
    if not person.is_active:
        raise NotActive
    return _set_staff(person, True, "staff.granted", actor, actor_label, address, reason)


def revoke(
    person: User, *, actor: User | None, actor_label: str = "", address: str | None = None, reason: str = ""
) -> bool:
    """Take staff rights from a person, from their next request on; False when they had none."""
    return _set_staff(person, False, "staff.revoked", actor, actor_label, address, reason)


def switch_off(person: User, *, actor: User | None, actor_label: str = "", address: str | None = None) -> bool:
    """End a person's access, from their next request on; False when it had ended."""
    return _set_active(person, False, "person.switched_off", actor, actor_label, address)


def switch_on(person: User, *, actor: User | None, actor_label: str = "", address: str | None = None) -> bool:
    """Give a person's access back, without staff rights they may have had; False when they had it."""
    return _set_active(person, True, "person.switched_on", actor, actor_label, address)


def _set_active(
    person: User, active: bool, action: str, actor: User | None, actor_label: str, address: str | None
) -> bool:
    with transaction.atomic():
        changed = User.objects.filter(pk=person.pk, is_active=not active).update(is_active=active)
        if changed:
            revoke(person, actor=actor, actor_label=actor_label, address=address, reason=action)
            audit.record(action, actor=actor, subject=person, address=address, actor_label=actor_label)
    person.is_active = active
    return bool(changed)


def _set_staff(
    person: User, staff: bool, action: str, actor: User | None, actor_label: str, address: str | None, reason: str
) -> bool:
    with transaction.atomic():
        changed = User.objects.filter(pk=person.pk, is_staff=not staff).update(is_staff=staff)
        if changed:
            detail = {"reason": reason} if reason else {}
            audit.record(action, actor=actor, subject=person, address=address, detail=detail, actor_label=actor_label)
    person.is_staff = staff
    return bool(changed)
