"""The settings of a test run: the product's own, in an environment that does not depend on this machine's files."""

import os

from tests import database

os.environ["RELAY_ENV_FILE"] = os.devnull  # a developer's .env does not reach the tests
os.environ.setdefault("APP_SECRET", "a-secret-that-only-the-tests-of-this-checkout-know")
os.environ.setdefault("PARTITION_DAYS_AHEAD", "8")  # fewer than in production: each test database makes them all
# Tests ask faster than people: the contract's numbers would refuse them. Those about limits set their own.
os.environ.setdefault("REQUESTS_PER_MINUTE", "100000")
os.environ.setdefault("SESSION_REQUESTS_PER_MINUTE", "100000")
os.environ.setdefault("SENDS_PER_SECOND", "100000")
os.environ.setdefault("LIVE_URL", "")  # no run_live beside the tests' pages
if "DATABASE_URL" not in os.environ:
    database.announce()

from relay_project.settings import *  # noqa: F403 - after the environment is set

STATIC_ROOT = None  # nothing is collected in a checkout; finders serve
WHITENOISE_AUTOREFRESH = True  # each test client would read the whole folder anew: 20 ms
LOGGING["cache"] = False  # noqa: F405 - so that a test can put its own ear to a logger that has spoken before
