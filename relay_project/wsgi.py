"""The web process: `gunicorn relay_project.wsgi`."""

import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
application = get_wsgi_application()
# All views, before there are threads: Django imports them with the first request, and of two that come at once one can
# find a module half imported. Its error page needs the same modules, so that the answer would be gunicorn's own 500.
import_module(settings.ROOT_URLCONF)
