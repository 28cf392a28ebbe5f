"""Who you are: people, their sign-ins, staff, the audit log."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
