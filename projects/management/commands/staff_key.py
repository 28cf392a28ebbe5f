"""`manage.py staff_key`: makes, lists and revokes keys to the staff API, from the machine itself."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import audit
from accounts.models import StaffKey, User
from accounts.staff import NoSuchPerson, SeveralPeople, find_person
from projects.staff_keys import NewStaffKey, create_staff_key, revoke_staff_key
from relay_project.web.errors import ApiError


class Command(BaseCommand):
    """See the module."""

    help = "Make a key to the staff API for a person who is staff; --list shows keys, --revoke ID ends one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        parser.add_argument("person", metavar="LOGIN_OR_EMAIL_OR_ID", nargs="?")
        parser.add_argument("--name", default="", help="what the key is for")
        parser.add_argument("--read-only", action="store_true", help="it opens reading alone")
        parser.add_argument(
            "--allow", action="append", default=[], metavar="ADDRESS", help="where it may be used from; repeatable"
        )
        parser.add_argument("--list", action="store_true", help="show all keys, without their secrets")
        parser.add_argument("--revoke", type=int, metavar="ID", help="end a key")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what was done."""
        if options["list"]:
            self._list()
        elif options["revoke"] is not None:
            self._revoke(options["revoke"])
        else:
            self._create(options)

    def _list(self) -> None:
        for key in StaffKey.objects.select_related("user"):
            kind = "read only" if key.is_read_only else "everything"
            used = f"last used {key.last_used_at:%Y-%m-%d}" if key.last_used_at else "never used"
            self.stdout.write(f"  id {key.pk}  {key.name}  of {key.user}  {kind}  {used}")

    def _revoke(self, key_id: int) -> None:
        key = StaffKey.objects.select_related("user").filter(pk=key_id).first()
        if key is None:
            raise CommandError(f"There is no staff key with the id {key_id}; --list shows them.")
        revoke_staff_key(key, actor=None, actor_label=audit.at_the_machine())
        self.stdout.write(f"Revoked: {key.name} of {key.user}")

    def _create(self, options: dict[str, Any]) -> None:
        if not options["person"] or not options["name"].strip():
            raise CommandError("Say whose key it is to be, and --name what it is for.")
        wanted = NewStaffKey(options["name"].strip()[:255], options["read_only"], options["allow"])
        try:
            key, token = create_staff_key(
                _person(options["person"]), wanted, actor=None, actor_label=audit.at_the_machine()
            )
        except ApiError as refusal:
            raise CommandError(refusal.message) from None
        self.stderr.write(f"Made: id {key.pk}, {key.name} of {key.user}. It is shown this once.")
        self.stdout.write(token)


def _person(text: str) -> User:
    try:
        return find_person(text)
    except NoSuchPerson:
        raise CommandError(f"Nobody has the login, e-mail address or id {text!r}.") from None
    except SeveralPeople as several:
        ids = ", ".join(str(person.pk) for person in several.people)
        raise CommandError(f"Several people fit; say which by id: {ids}.") from None
