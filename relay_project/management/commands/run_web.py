"""`manage.py run_web`: the API, the console and the staff admin, served by gunicorn."""

from relay_project.gunicorn_command import GunicornCommand


class Command(GunicornCommand):
    """The web process."""

    help = "Serve the API, the console and the staff admin (WEB_BIND, WEB_WORKERS, WEB_THREADS)."
    role = "web"
    configuration = "python:relay_project.gunicorn_conf"
    application = "relay_project.wsgi:application"
