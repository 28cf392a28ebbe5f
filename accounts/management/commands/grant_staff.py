"""`manage.py grant_staff`: makes a person staff, or no longer staff, from the machine itself."""

import getpass
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from accounts import audit
from accounts.models import User
from accounts.sign_in import LINK_MINUTES, make_link
from accounts.staff import NoSuchPerson, NotActive, SeveralPeople, create_local, find_person, grant, revoke
from relay_project.mail.address import InvalidAddress


class Command(BaseCommand):
    help = "Make a person staff (--revoke: no longer staff), known by local login, e-mail address or id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        parser.add_argument("person", metavar="LOGIN_OR_EMAIL_OR_ID")
        parser.add_argument("--revoke", action="store_true", help="take the rights away")
        parser.add_argument(
            "--create", action="store_true", help="make a local account with this login if there is none"
        )
        parser.add_argument("--name", default="", help="the name of an account that is made")
        parser.add_argument("--link", action="store_true", help="print a one-time sign-in link")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what was done."""
        if options["revoke"] and (options["create"] or options["link"]):
            raise CommandError("--revoke goes with neither --create nor --link.")
        if options["name"] and not options["create"]:
            raise CommandError("--name is the name of an account that --create makes.")
        person, created = self._person(options["person"], options["create"], options["name"])
        if options["revoke"]:
            self._revoke(person)
            return
        self._grant(person)
        if options["link"] or created:
            path = make_link(person, datetime.now(UTC))
            self.stdout.write(f"Signs in once, within {LINK_MINUTES} minutes: {settings.WEB_URL}{path}")

    def _person(self, text: str, create: bool, name: str) -> tuple[User, bool]:
        """The person, and whether they were made just now."""
        try:
            return find_person(text), False
        except SeveralPeople as several:
            raise CommandError("Several people fit; say which by id:\n" + describe(several.people)) from None
        except NoSuchPerson:
            if not create:
                raise CommandError(
                    f"Nobody has the login, e-mail address or id {text!r}. Who signs in by OIDC exists after the first "
                    "sign-in; --create makes a local account."
                ) from None
        try:
            with transaction.atomic():
                return create_local(text, name, actor_label=audit.COMMAND_LINE), True
        except InvalidAddress as error:
            raise CommandError(f"The login of a local account is an e-mail address, and {text!r} is {error}.") from None
        except IntegrityError:
            raise CommandError(f"Somebody else made {text!r} in this very moment. Run the command again.") from None

    def _grant(self, person: User) -> None:
        try:
            changed = grant(person, actor=None, actor_label=audit.COMMAND_LINE, reason=_reason())
        except NotActive:
            raise CommandError(f"This account is switched off: {describe([person])}") from None
        self.stdout.write(f"{'Now staff' if changed else 'Already staff'}: {describe([person])}")

    def _revoke(self, person: User) -> None:
        changed = revoke(person, actor=None, actor_label=audit.COMMAND_LINE, reason=_reason())
        self.stdout.write(f"{'No longer staff' if changed else 'Was not staff'}: {describe([person])}")
        if not User.objects.filter(is_staff=True, is_active=True).exists():
            self.stderr.write("Nobody is staff now.")


def describe(people: list[User]) -> str:
    """One line a person: id, name, e-mail address and how they sign in, so that namesakes can be told apart."""
    return "\n".join(
        f"  id {person.pk}  {person}  <{person.email or '-'}>  "
        + ", ".join([*(f"login {login}" for login in [person.login] if login), *map(str, person.identities.all())])
        for person in people
    )


def _reason() -> str:
    """Which account of the machine ran the command, as far as it says so."""
    try:
        return f"grant_staff, run by {getpass.getuser()}"
    except (KeyError, OSError):  # a container's uid without a name
        return "grant_staff"
