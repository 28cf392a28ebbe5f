"""Whose it is: projects, members, keys, domains, the event log."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "projects"
