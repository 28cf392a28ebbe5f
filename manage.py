#!/usr/bin/env python
"""Relay's command line: `manage.py help` lists the commands."""

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line, load_command_class

WITHOUT_SETTINGS = {"parse_report"}  # these run anywhere, whatever the environment holds


def main() -> None:
    """Run the command named on the command line."""
    if len(sys.argv) > 1 and sys.argv[1] in WITHOUT_SETTINGS:
        settings.configure()
        load_command_class("relay_project", sys.argv[1]).run_from_argv(sys.argv)
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"Relay does not start: {error}")


if __name__ == "__main__":
    main()
