"""All settings, read from the environment.

Order: the environment, then the file named by RELAY_ENV_FILE (default `.env` beside manage.py), then, when neither names
a database or a secret, `.relay/env` that `manage.py quickstart` wrote. A nonsense value refuses to start with a sentence.
docs/settings.md lists every name.
"""

import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from accounts.id_token import ALGORITHMS
from projects.roles import ROLE_SCOPES
from projects.scopes import SCOPES
from relay_project.admin_theme import UNFOLD as UNFOLD
from relay_project.configuration import (
    derived_secret,
    read_addresses,
    read_choice,
    read_database,
    read_domain,
    read_endpoint,
    read_file,
    read_issuer,
    read_lifetime,
    read_listeners,
    read_log_level,
    read_networks,
    read_optional_url,
    read_origins,
    read_plan,
    read_positive,
    read_routes,
    read_schedule,
    read_scope_table,
    read_secrets,
    read_source_ips,
    read_switch,
    read_web_url,
)

BASE_DIR = Path(__file__).resolve().parent.parent
RELAY_HOME = Path(os.environ.get("RELAY_HOME", BASE_DIR / ".relay"))

env = environ.Env()
environ.Env.read_env(os.environ.get("RELAY_ENV_FILE", BASE_DIR / ".env"))
if "DATABASE_URL" not in os.environ and "APP_SECRET" not in os.environ:
    environ.Env.read_env(RELAY_HOME / "env")

# Commands that need neither a database nor secrets run without configuration (quickstart and bench make theirs).
UNCONFIGURED_COMMANDS = {"quickstart", "bench", "chaos", "help", "--help", "version", "--version", "collectstatic"}
UNCONFIGURED_COMMANDS |= {"makemigrations", "parse_report"}
_unconfigured = len(sys.argv) < 2 or sys.argv[1] in UNCONFIGURED_COMMANDS or "mypy" in sys.argv[0]

# --- What an operator must say -------------------------------------------------------------------------------------

DEBUG = read_switch(env, "DEBUG", default=False)
APP_SECRETS = read_secrets(env, required=not _unconfigured)
SECRET_KEY = derived_secret(APP_SECRETS[0])
SECRET_KEY_FALLBACKS = [derived_secret(old) for old in APP_SECRETS[1:]]
WEB_URL = read_web_url(env, "WEB_URL", default="http://127.0.0.1:8000")
INSTANCE_DOMAIN = read_domain(env, "INSTANCE_DOMAIN", default="relay.test")
MX_HOST = read_domain(env, "MX_HOST", default=INSTANCE_DOMAIN)  # what MX records of receiving domains name
LOG_LEVEL = read_log_level(env, "LOG_LEVEL", default="info")

if "DATABASE_URL" not in os.environ and not _unconfigured:
    raise ImproperlyConfigured(
        "DATABASE_URL is not set. Give one (postgresql://user:password@host:5432/relay), or run `manage.py quickstart`."
    )
DATABASES = {"default": read_database(env, "DATABASE_URL", default="postgresql://relay@127.0.0.1/relay")}
DATABASE_DIRECT_URL = env.str("DATABASE_DIRECT_URL", default="")  # past a transaction pooler; for session locks

# --- Mail ----------------------------------------------------------------------------------------------------------

PRODUCT_NAME = "Relay"
VERSION = "0.1.0"
DNS_RESOLVERS = read_addresses(env, "DNS_RESOLVERS", default_port=53)  # empty: the system's
DNS_TRUST_AD = read_choice(env, "DNS_TRUST_AD", ("auto", "true", "false"))  # whether DNSSEC's AD bit is believed
# How many submitted mails may be with the database at once, each in a thread with a connection of its own.
SUBMISSION_THREADS = read_positive(env, "SUBMISSION_THREADS", default=2, maximum=100)
OUTGOING_SMTP_PORT = read_positive(env, "OUTGOING_SMTP_PORT", default=25, maximum=65535)
SIMULATOR_DOMAIN = read_domain(env, "SIMULATOR_DOMAIN", default=f"simulator.{INSTANCE_DOMAIN}")
SANDBOX_SMTP = read_endpoint(env, "SANDBOX_SMTP", default="127.0.0.1:2525")
SANDBOX_DNS = read_endpoint(env, "SANDBOX_DNS", default="127.0.0.1:5354")
SANDBOX_INTERNET = read_switch(env, "SANDBOX_INTERNET", default=False)  # the sandbox stands in for the whole internet
# Whether an MX may lead to loopback and private addresses: for an intranet whose own DNS names them, and where another
# port than SMTP's says that this is not the internet.
PRIVATE_MX = read_switch(env, "PRIVATE_MX", default=SANDBOX_INTERNET or OUTGOING_SMTP_PORT != 25)
# domain → host:port that its mail goes to instead of asking DNS; the simulator domain always goes to the sandbox.
SMTP_ROUTES = {SIMULATOR_DOMAIN: "{}:{}".format(*SANDBOX_SMTP), **read_routes(env, "SMTP_ROUTES")}
SOURCE_IPS = read_source_ips(env, "SOURCE_IPS")  # empty: the host's public addresses; "public=bind" behind NAT
SMTP_CHUNKING = read_switch(env, "SMTP_CHUNKING", default=True)  # BDAT where offered (RFC 3030)
SMTP_TRUST_FILE = read_file(env, "SMTP_TRUST_FILE")  # certificates (PEM) believed beside the system's
MTA_STS = read_switch(env, "MTA_STS", default=True)
MTA_STS_PORT = read_positive(env, "MTA_STS_PORT", default=443, maximum=65535)
SERVER_NAME = env.str("SERVER_NAME", default="")  # empty: the host name
SENDER_PROCESSES = read_positive(
    env, "SENDER_PROCESSES", default=0, minimum=0, maximum=64
)  # 0: cores, at most one an IP
IN_FLIGHT_ROWS = read_positive(env, "IN_FLIGHT_ROWS", default=400, maximum=10_000)  # mails a sender holds at once
IN_FLIGHT_BYTES = read_positive(env, "IN_FLIGHT_BYTES", default=64 * 1024 * 1024)
SITE_CONNECTIONS = read_positive(env, "SITE_CONNECTIONS", default=10, maximum=200)  # per source IP and site
CONVERSATION_SECONDS = read_positive(
    env, "CONVERSATION_SECONDS", default=300
)  # overall deadline, counts from the claim
RETRY_SCHEDULE = read_schedule(env, "RETRY_SCHEDULE", default="15m,1h,2h,4h,8h,16h")
MAIL_LIFETIME = read_lifetime(env, "MAIL_LIFETIME", RETRY_SCHEDULE)  # what waits longer is given up
NOTICES = read_switch(env, "NOTICES", default=True)  # mail to people about what befalls their projects
NOTICE_MINUTES = read_positive(env, "NOTICE_MINUTES", default=15, maximum=1440)  # what comes within them is one mail
DELAY_WARNING = timedelta(
    hours=read_positive(env, "DELAY_WARNING_HOURS", default=4, minimum=0, maximum=720)
)  # 0: never
# An address is suppressed when its mail ended undelivered on so many days (UTC) within the window; 0: never.
SOFT_BOUNCE_LIMIT = read_positive(env, "SOFT_BOUNCE_LIMIT", default=5, minimum=0, maximum=365)
SOFT_BOUNCE_DAYS = read_positive(env, "SOFT_BOUNCE_DAYS", default=30, maximum=365)
# An incident that was not seen for so many hours is over; 0: staff close them all.
INCIDENT_CLOSE_HOURS = read_positive(env, "INCIDENT_CLOSE_HOURS", default=72, minimum=0, maximum=10_000)
# So many refusals of our address within the window pause the site for that address; 0: never.
INCIDENT_PAUSE_LIMIT = read_positive(env, "INCIDENT_PAUSE_LIMIT", default=0, minimum=0, maximum=1_000_000)
INCIDENT_PAUSE_MINUTES = read_positive(env, "INCIDENT_PAUSE_MINUTES", default=10, maximum=1440)
# How long the record of a replaced DKIM key must stay: what it signed is tried for as long as mail lives.
DKIM_OVERLAP = max(timedelta(days=read_positive(env, "DKIM_OVERLAP_DAYS", default=7, maximum=365)), MAIL_LIFETIME)
WARMUP_PLAN = read_plan(  # messages a day of a source IP in warm-up; after the last day it is warm
    env,
    "WARMUP_PLAN",
    default="50,100,200,400,800,1500,3000,5000,8000,12000,20000,30000,45000,70000,100000",
)
SITE_SHARE = read_positive(env, "SITE_SHARE", default=40, maximum=49)  # per cent of the allowance slow sites may hold
LEASE_GRACE_SECONDS = read_positive(env, "LEASE_GRACE_SECONDS", default=30)  # lease = deadline + this

# --- Limits of a project, where staff have not set its own (projects.limits) -----------------------------------------

SESSION_REQUESTS_PER_MINUTE = read_positive(env, "SESSION_REQUESTS_PER_MINUTE", default=60, maximum=1_000_000)
REQUESTS_PER_MINUTE = read_positive(env, "REQUESTS_PER_MINUTE", default=100, maximum=1_000_000)  # of an API key
SENDS_PER_SECOND = read_positive(env, "SENDS_PER_SECOND", default=10, maximum=1_000_000)
SENDS_PER_HOUR = read_positive(env, "SENDS_PER_HOUR", default=0, minimum=0, maximum=10**9)  # 0: no limit
SENDS_PER_DAY = read_positive(env, "SENDS_PER_DAY", default=0, minimum=0, maximum=10**9)
MAX_RECIPIENTS = read_positive(env, "MAX_RECIPIENTS", default=20, maximum=1000)
MAX_MESSAGE_BYTES = read_positive(env, "MAX_MESSAGE_BYTES", default=10 * 1024 * 1024)

# An API request's body. A mail of MAX_MESSAGE_BYTES fits: its files are base64 there as here, and JSON's escapes are no
# longer than those of a mail's text.
MAX_REQUEST_BYTES = read_positive(env, "MAX_REQUEST_BYTES", default=16 * 1024 * 1024, minimum=4096)
MAX_BATCH_REQUEST_BYTES = read_positive(env, "MAX_BATCH_REQUEST_BYTES", default=32 * 1024 * 1024, minimum=4096)
MAX_BATCH_MESSAGES = read_positive(env, "MAX_BATCH_MESSAGES", default=1000, maximum=10_000)
MAX_WEBHOOKS = read_positive(env, "MAX_WEBHOOKS", default=20, maximum=1000)  # per project
MAX_MAILBOXES = read_positive(env, "MAX_MAILBOXES", default=20, maximum=100_000)  # per project
MAILBOX_MAX_ITEMS = read_positive(env, "MAILBOX_MAX_ITEMS", default=10_000, maximum=1_000_000)  # then 507
MAILBOX_MAX_BYTES = read_positive(env, "MAILBOX_MAX_BYTES", default=256_000_000, minimum=2**24, maximum=2**40)
MAILBOX_MAX_PAYLOAD_BYTES = read_positive(
    env, "MAILBOX_MAX_PAYLOAD_BYTES", default=256 * 1024, maximum=16 * 1024 * 1024
)
MAILBOX_MAX_ANSWER_BYTES = read_positive(
    env, "MAILBOX_MAX_ANSWER_BYTES", default=8 * 1024 * 1024, maximum=64 * 1024 * 1024
)
MAILBOX_TTL_DAYS = read_positive(env, "MAILBOX_TTL_DAYS", default=30, maximum=3650)
MAILBOX_MAX_TTL_DAYS = read_positive(env, "MAILBOX_MAX_TTL_DAYS", default=90, maximum=3650)
MAILBOX_REMEMBER_HOURS = read_positive(env, "MAILBOX_REMEMBER_HOURS", default=24, maximum=24 * 90)  # acknowledged ones
MAILBOX_REQUESTS_PER_MINUTE = read_positive(env, "MAILBOX_REQUESTS_PER_MINUTE", default=60_000, maximum=10_000_000)
MAILBOX_METRICS_BY_NAME = read_positive(env, "MAILBOX_METRICS_BY_NAME", default=0, minimum=0, maximum=1000)  # 0: none
MAILBOX_WAITERS = read_positive(env, "MAILBOX_WAITERS", default=4, maximum=256)  # of a worker's WEB_THREADS
PRIVATE_WEBHOOKS = read_switch(env, "PRIVATE_WEBHOOKS", default=SANDBOX_INTERNET)  # lesson S2
WEBHOOK_OPEN_NETWORKS = read_networks(env, "WEBHOOK_OPEN_NETWORKS")  # that webhooks may go to though they are private
WEBHOOK_TRUST_FILE = read_file(env, "WEBHOOK_TRUST_FILE")  # certificates (PEM) believed beside the system's
WEBHOOK_RETRY_SCHEDULE = read_schedule(env, "WEBHOOK_RETRY_SCHEDULE", default="1m,5m,15m,1h,4h,24h")
WEBHOOK_CONCURRENCY = read_positive(env, "WEBHOOK_CONCURRENCY", default=20, maximum=200)  # calls at once to one webhook
WEBHOOK_IN_FLIGHT = read_positive(env, "WEBHOOK_IN_FLIGHT", default=500, maximum=10_000)  # calls at once of a process
WEBHOOK_DISABLE_DAYS = read_positive(  # of nothing but failures, after which a webhook is disabled; 0: never
    env, "WEBHOOK_DISABLE_DAYS", default=3, minimum=0, maximum=365
)
API_KEY_OVERLAP_HOURS = read_positive(env, "API_KEY_OVERLAP_HOURS", default=168, maximum=24 * 90)  # of a rotated key
# A CSV of suppressions, which is read as it comes: some millions of lines.
MAX_IMPORT_BYTES = read_positive(env, "MAX_IMPORT_BYTES", default=256 * 1024 * 1024, minimum=4096)
PARTITION_DAYS_AHEAD = read_positive(env, "PARTITION_DAYS_AHEAD", default=30, maximum=400)

# --- The way in ----------------------------------------------------------------------------------------------------

# Where run_smtp listens: other servers, submission with STARTTLS, submission with TLS from the first octet.
SMTP_MX = read_listeners(env, "SMTP_MX", default="0.0.0.0:25")
SMTP_SUBMISSION = read_listeners(env, "SMTP_SUBMISSION", default="0.0.0.0:587")
SMTP_SUBMISSIONS = read_listeners(env, "SMTP_SUBMISSIONS", default="0.0.0.0:465")
SMTP_HOSTNAME = read_domain(env, "SMTP_HOSTNAME", default=f"mx.{INSTANCE_DOMAIN}")
SMTP_CERTIFICATE_FILE = env.str("SMTP_CERTIFICATE_FILE", default="")  # may come later than the process
SMTP_KEY_FILE = env.str("SMTP_KEY_FILE", default="")  # empty: the key stands in SMTP_CERTIFICATE_FILE
if SMTP_KEY_FILE and not SMTP_CERTIFICATE_FILE:
    raise ImproperlyConfigured("SMTP_KEY_FILE is set: SMTP_CERTIFICATE_FILE is needed beside it.")
SMTP_PROXIES = read_networks(env, "SMTP_PROXIES")  # who must begin with the PROXY protocol; default: nobody
SMTP_CONNECTIONS = read_positive(env, "SMTP_CONNECTIONS", default=1000, maximum=50_000)
SMTP_RESERVED_CONNECTIONS = min(
    read_positive(env, "SMTP_RESERVED_CONNECTIONS", default=200, minimum=0, maximum=50_000), SMTP_CONNECTIONS // 2
)
SMTP_PEER_CONNECTIONS = read_positive(env, "SMTP_PEER_CONNECTIONS", default=50, maximum=50_000)
SMTP_PEER_CONNECTIONS_PER_MINUTE = read_positive(
    env, "SMTP_PEER_CONNECTIONS_PER_MINUTE", default=600, maximum=1_000_000
)
SMTP_UNLIMITED_PEERS = read_networks(env, "SMTP_UNLIMITED_PEERS", default=("127.0.0.0/8", "::1/128"))
SMTP_AUTH_FAILURES = read_positive(env, "SMTP_AUTH_FAILURES", default=10, maximum=10_000)
SMTP_AUTH_PAUSE_SECONDS = read_positive(env, "SMTP_AUTH_PAUSE_SECONDS", default=60, maximum=86_400)
SMTP_SESSION_SECONDS = read_positive(env, "SMTP_SESSION_SECONDS", default=3600, minimum=60, maximum=86_400)
SMTP_FRUITLESS_SECONDS = read_positive(env, "SMTP_FRUITLESS_SECONDS", default=600, minimum=60, maximum=86_400)
SMTP_DATA_RATE = read_positive(env, "SMTP_DATA_RATE", default=200, maximum=1_000_000)
SMTP_MX_RECIPIENTS = read_positive(env, "SMTP_MX_RECIPIENTS", default=100, minimum=100, maximum=10_000)  # RFC 5321
SMTP_BYTES_IN_FLIGHT = max(read_positive(env, "SMTP_BYTES_IN_FLIGHT", default=256 * 1024 * 1024), 2 * MAX_MESSAGE_BYTES)

# --- Retention, in days --------------------------------------------------------------------------------------------

RETENTION_SENDS_DAYS = read_positive(env, "RETENTION_SENDS_DAYS", default=30, maximum=3650)
# What a send is made of, and what was tried for it, leaves with it at the latest.
RETENTION_CONTENT_DAYS = min(
    read_positive(env, "RETENTION_CONTENT_DAYS", default=30, maximum=3650), RETENTION_SENDS_DAYS
)
RETENTION_ATTEMPTS_DAYS = min(
    read_positive(env, "RETENTION_ATTEMPTS_DAYS", default=30, maximum=3650), RETENTION_SENDS_DAYS
)
# How long an unsubscribe link works; 0: for ever. Never shorter than the mail that it stands in is kept.
UNSUBSCRIBE_LINK_DAYS = read_positive(env, "UNSUBSCRIBE_LINK_DAYS", default=0, minimum=0, maximum=36_500)
if 0 < UNSUBSCRIBE_LINK_DAYS < RETENTION_SENDS_DAYS:
    raise ImproperlyConfigured(
        f"UNSUBSCRIBE_LINK_DAYS must be 0 or at least RETENTION_SENDS_DAYS ({RETENTION_SENDS_DAYS}), not "
        f"{UNSUBSCRIBE_LINK_DAYS}."
    )
RETENTION_EVENTS_DAYS = read_positive(env, "RETENTION_EVENTS_DAYS", default=30, maximum=3650)
RETENTION_DELIVERIES_DAYS = read_positive(env, "RETENTION_DELIVERIES_DAYS", default=14, maximum=3650)
RETENTION_IDEMPOTENCY_DAYS = read_positive(env, "RETENTION_IDEMPOTENCY_DAYS", default=1, maximum=365)
RETENTION_INBOUND_DAYS = read_positive(env, "RETENTION_INBOUND_DAYS", default=30, maximum=3650)  # raw mail (lesson S9)
RETENTION_SANDBOX_DAYS = read_positive(env, "RETENTION_SANDBOX_DAYS", default=30, maximum=3650)
# Statistics by the hour (the API's 30 days are read from them) and by the day.
RETENTION_STATISTICS_HOURS_DAYS = read_positive(
    env, "RETENTION_STATISTICS_HOURS_DAYS", default=35, minimum=31, maximum=3650
)
RETENTION_STATISTICS_DAYS = read_positive(env, "RETENTION_STATISTICS_DAYS", default=730, minimum=31, maximum=36_500)
# Reports about domains by mail, of which the console shows 30 days.
RETENTION_DOMAIN_REPORTS_DAYS = read_positive(
    env, "RETENTION_DOMAIN_REPORTS_DAYS", default=90, minimum=30, maximum=3650
)
RETENTION_AUDIT_DAYS = read_positive(env, "RETENTION_AUDIT_DAYS", default=365, minimum=0, maximum=36_500)  # 0: for ever

# --- Processes -----------------------------------------------------------------------------------------------------

WEB_BIND = read_endpoint(env, "WEB_BIND", default="127.0.0.1:8000")
WEB_WORKERS = read_positive(env, "WEB_WORKERS", default=2, maximum=64)
WEB_THREADS = read_positive(env, "WEB_THREADS", default=8, maximum=256)
LIVE_BIND = read_endpoint(env, "LIVE_BIND", default="127.0.0.1:8001")
# Where browsers reach the live stream: behind https a proxy leads its path there, else its own address.
# Empty: pages do without it.
LIVE_URL = read_optional_url(
    env, "LIVE_URL", default=WEB_URL if WEB_URL.startswith("https://") else "http://{}:{}".format(*LIVE_BIND)
)
LIVE_ORIGINS = read_origins(env, "LIVE_ORIGINS")  # of other pages that may open it
LIVE_CONNECTIONS = read_positive(env, "LIVE_CONNECTIONS", default=2000, maximum=50_000)  # of a process
LIVE_PROJECT_CONNECTIONS = read_positive(env, "LIVE_PROJECT_CONNECTIONS", default=200, maximum=50_000)
LIVE_ADDRESS_CONNECTIONS = read_positive(env, "LIVE_ADDRESS_CONNECTIONS", default=100, maximum=50_000)
LIVE_HEARTBEAT_SECONDS = read_positive(env, "LIVE_HEARTBEAT_SECONDS", default=15, maximum=300)
# Where each process answers /health, /ready and /metrics: loopback unless the operator says otherwise (lesson S1).
PROBES = {
    "web": read_endpoint(env, "PROBE_WEB", default="127.0.0.1:9101"),
    "senders": read_endpoint(env, "PROBE_SENDERS", default="127.0.0.1:9102"),
    "webhooks": read_endpoint(env, "PROBE_WEBHOOKS", default="127.0.0.1:9103"),
    "housekeeping": read_endpoint(env, "PROBE_HOUSEKEEPING", default="127.0.0.1:9104"),
    "sandbox": read_endpoint(env, "PROBE_SANDBOX", default="127.0.0.1:9105"),
    "smtp": read_endpoint(env, "PROBE_SMTP", default="127.0.0.1:9106"),
    "live": read_endpoint(env, "PROBE_LIVE", default="127.0.0.1:9107"),
}
TRUSTED_PROXIES = read_networks(env, "TRUSTED_PROXIES")  # default: none (lesson S4)
SHUTDOWN_SECONDS = read_positive(env, "SHUTDOWN_SECONDS", default=20)

# --- Sign-in -------------------------------------------------------------------------------------------------------

OIDC_ISSUER_URL = read_issuer(env, "OIDC_ISSUER_URL")
OIDC_RP_CLIENT_ID = env.str("OIDC_CLIENT_ID", default="")
OIDC_RP_CLIENT_SECRET = env.str("OIDC_CLIENT_SECRET", default="")
OIDC_ENABLED = bool(OIDC_ISSUER_URL)
if OIDC_ENABLED and not (OIDC_RP_CLIENT_ID and OIDC_RP_CLIENT_SECRET):
    raise ImproperlyConfigured("OIDC_ISSUER_URL is set: OIDC_CLIENT_ID and OIDC_CLIENT_SECRET are needed beside it.")
OIDC_FIRST_USER_IS_STAFF = read_switch(env, "OIDC_FIRST_USER_IS_STAFF", default=False)  # lesson S8
OIDC_CLOCK_LEEWAY_SECONDS = read_positive(env, "OIDC_CLOCK_LEEWAY_SECONDS", default=60, minimum=0, maximum=600)
OIDC_RP_SCOPES = "openid profile email"
OIDC_RP_SIGN_ALGO = env.str("OIDC_SIGN_ALGO", default="RS256")
if OIDC_RP_SIGN_ALGO not in ALGORITHMS:
    raise ImproperlyConfigured(f"OIDC_SIGN_ALGO must be one of {', '.join(sorted(ALGORITHMS))}.")
# Access tokens of the provider as credentials of the API; empty: off.
OIDC_API_AUDIENCE = env.str("OIDC_API_AUDIENCE", default="").strip()
if OIDC_API_AUDIENCE and not OIDC_ENABLED:
    raise ImproperlyConfigured("OIDC_API_AUDIENCE is set: OIDC_ISSUER_URL is needed beside it.")
if OIDC_API_AUDIENCE and OIDC_API_AUDIENCE == OIDC_RP_CLIENT_ID:  # whoever sees an ID token could use the API with it
    raise ImproperlyConfigured("OIDC_API_AUDIENCE must not be OIDC_CLIENT_ID, the audience of ID tokens.")
OIDC_API_ALGORITHMS = env.list("OIDC_API_ALGORITHMS", default=[OIDC_RP_SIGN_ALGO])
if not OIDC_API_ALGORITHMS or not ALGORITHMS.issuperset(OIDC_API_ALGORITHMS):
    raise ImproperlyConfigured(f"OIDC_API_ALGORITHMS must list some of {', '.join(sorted(ALGORITHMS))}.")
OIDC_API_SCOPE_CLAIM = env.str("OIDC_API_SCOPE_CLAIM", default="scope").strip() or "scope"
OIDC_API_SCOPES = read_scope_table(env, "OIDC_API_SCOPES", SCOPES, ROLE_SCOPES)
OIDC_USE_PKCE = True
OIDC_PKCE_CODE_CHALLENGE_METHOD = "S256"
OIDC_TIMEOUT = 10
OIDC_VERIFY_SSL = True
OIDC_VERIFY_KID = read_switch(env, "OIDC_VERIFY_KID", default=True)
OIDC_CALLBACK_CLASS = "accounts.oidc.CallbackView"
OIDC_STORE_ID_TOKEN = True
OIDC_REDIRECT_ALLOWED_HOSTS: list[str] = []
INVITATION_DAYS = read_positive(env, "INVITATION_DAYS", default=7, maximum=90)
LOCAL_SIGN_IN = read_switch(env, "LOCAL_SIGN_IN", default=not OIDC_ENABLED)

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.oidc.Backend"] if OIDC_ENABLED else []
AUTHENTICATION_BACKENDS += ["accounts.sign_in.PasswordBackend"]
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/console/"
LOGOUT_REDIRECT_URL = "/sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Django --------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # the site is ours: relay_project.admin_site
    "unfold.contrib.filters",
    "relay_project.admin_site.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "procrastinate.contrib.django",
    "relay_project",
    "accounts",
    "projects",
    "queues",
    "ips",
    "sending",
    "webhooks",
]
MIDDLEWARE = [
    "relay_project.web.proxies.TrustedProxies",
    "django.middleware.security.SecurityMiddleware",
    "relay_project.web.requests.RequestLog",
    "relay_project.web.rate_headers.RateHeaders",
    "relay_project.web.keyed.KeyedRequests",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "relay_project.urls"
WSGI_APPLICATION = "relay_project.wsgi.application"
ASGI_APPLICATION = "relay_project.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"  # 64 bit everywhere (lesson P10)
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "relay_project.web.formats"

STATIC_URL = "/static/"
STATIC_ROOT = (
    BASE_DIR / ".relay-static" if "RELAY_STATIC_ROOT" not in os.environ else Path(os.environ["RELAY_STATIC_ROOT"])
)
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # a checkout serves without collectstatic; the image collects at build time
warnings.filterwarnings("ignore", "No directory at")  # WhiteNoise's word about the folder that a checkout does without
WHITENOISE_KEEP_ONLY_HASHED_FILES = False
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_REQUEST_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

_secure = WEB_URL.startswith("https://")
ALLOWED_HOSTS = [
    urlsplit(WEB_URL).hostname or "localhost",
    "localhost",
    "127.0.0.1",
    "[::1]",
    *env.list("ALLOWED_HOSTS", default=[]),
]
CSRF_TRUSTED_ORIGINS = [WEB_URL]
SESSION_COOKIE_NAME = "relay_session"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if _secure else 0
X_FRAME_OPTIONS = "SAMEORIGIN"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF, *([LIVE_URL.replace("http", "ws", 1)] if LIVE_URL else [])],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [SELF],
    },
}

EMAIL_BACKEND = env.str("EMAIL_BACKEND", default="sending.email_backend.SystemProject")
DEFAULT_FROM_EMAIL = f"relay@{INSTANCE_DOMAIN}"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["projects.authentication.ConsoleAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["projects.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["relay_project.web.json.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["relay_project.web.json.OrjsonParser", "relay_project.web.json.FormParser"],
    "EXCEPTION_HANDLER": "relay_project.web.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "relay_project.web.json.JsonAlways",
    "DEFAULT_SCHEMA_CLASS": "relay_project.web.openapi.EndpointSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": f"{PRODUCT_NAME} API",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SORT_OPERATIONS": False,  # the URL map has them in a reader's order
    "POSTPROCESSING_HOOKS": ["relay_project.web.openapi.complete"],
}

PROCRASTINATE_ON_APP_READY = None
PROCRASTINATE_IMPORT_PATHS = ["relay_project.jobs"]
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "tasks"

LOGGING_CONFIG = "relay_project.logs.configure"
LOGGING: dict[str, Any] = {"level": LOG_LEVEL, "human": sys.stderr.isatty(), "cache": True}

SILENCED_SYSTEM_CHECKS = ["security.W003"]
