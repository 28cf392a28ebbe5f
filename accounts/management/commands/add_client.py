"""`manage.py add_client`: an account for a machine that calls the API with access tokens of the OpenID provider."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from accounts import audit, provider
from accounts.id_token import MAX_SUBJECT
from accounts.identities import register_client
from accounts.provider import ProviderUnavailable


class Command(BaseCommand):
    help = "Make an account for a machine, known by the subject (sub) of its access tokens."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        parser.add_argument("subject", metavar="SUBJECT")
        parser.add_argument("--name", default="", help="what people see in the list of members; default: the subject")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what comes next."""
        subject = options["subject"]
        if not settings.OIDC_ENABLED:
            raise CommandError("OIDC_ISSUER_URL is not set: there is no provider that issues tokens.")
        if not subject.isprintable() or not 0 < len(subject) <= MAX_SUBJECT:
            raise CommandError(f"A subject has 1 to {MAX_SUBJECT} printable characters.")
        try:
            issuer = provider.current().issuer
            client = register_client(subject, options["name"], issuer, actor_label=audit.at_the_machine())
        except ProviderUnavailable as failure:
            raise CommandError(str(failure)) from None
        except IntegrityError:
            raise CommandError("There is an account with this subject already.") from None
        self.stdout.write(f"{client} has the id {client.pk}. Add it to a project like any other account.")
        if not settings.OIDC_API_AUDIENCE:
            self.stdout.write("OIDC_API_AUDIENCE is not set: access tokens are refused so far.")
