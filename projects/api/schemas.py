"""What goes over the wire on this floor: the shapes of projects.objects, and of the bodies that the views read."""

from projects.dkim_keys import MAX_PEM
from projects.dns_records import Purpose, RecordState
from projects.keeping import LEAST_DAYS, most_days
from projects.models import DkimAlgorithm, DkimKeyState, DomainStatus, ReturnPathStatus, SendType
from projects.people import MAX_FOUND, MAX_OFFSET
from projects.roles import Role
from projects.scopes import SCOPES
from relay_project.web.schema import (
    Schema,
    answer,
    body,
    boolean,
    choice,
    identifier,
    integer,
    listed,
    mapped,
    moment,
    nullable,
    number,
    string,
    text,
)

MAX_NAME = 1000  # characters read of a domain's name; the rule says what a domain may be
LAST_MOMENT = 253_402_300_799  # 31 December 9999 in Unix seconds, where Python's datetime ends
CANNOT_GIVE = "You cannot give the scope '…', which you do not have yourself."

SCOPE = choice(SCOPES)
SCOPE_LIST = listed(SCOPE, "What the key or the person may do.")
ROLE_NAME = nullable(choice(Role, "The role that has exactly these scopes."))
GIVEN_ROLE = choice(Role, "Instead of scopes: those of a role.")
ROLE = answer("Role", {"name": choice(Role), "description": string(), "scopes": SCOPE_LIST})

# --- Projects and people -------------------------------------------------------------------------------------------

PROJECT = answer(
    "Project",
    {
        "id": identifier(),
        "created_at": moment(),
        "name": string(examples=["Shop"]),
        "send_type": choice(SendType.values, "What it sends; for good."),
        "content_days": integer("For how many days bodies, headers and attachments are kept.", 1),
        "status": choice(("active", "suspended", "archived"), "Suspended by staff, or archived: it sends nothing."),
        "suspend_reason": nullable(string("Why staff suspended it.")),
    },
)
USER = answer(
    "User",
    {
        "id": identifier(),
        "name": string(),
        "email": string(),
        "username": nullable(string()),
        "picture_url": nullable(string()),
        "oidc_sub": {"type": "null"},
    },
)
PROJECT_USER = answer(
    "ProjectUser",
    {
        "id": identifier("The membership's."),
        "created_at": moment(),
        "scopes": SCOPE_LIST,
        "role": ROLE_NAME,
        "user": USER,
        "oidc_sub": nullable(string("Who the person is at the OpenID provider.")),
        "project": PROJECT,
    },
)
_USE = answer("Use", {"used": integer(least=0), "reset_seconds": integer("Until that begins anew.", 1)})
PROJECT_LIMITS = answer(
    "ProjectLimits",
    {
        "limits": answer(
            "Limits",
            {
                "requests_per_minute": integer("Of one API key, but for sending.", 1),
                "session_requests_per_minute": integer("Of one person.", 1),
                "sends_per_second": integer("By all API keys together.", 1),
                "sends_per_hour": nullable(integer("Null: no limit.", 1)),
                "sends_per_day": nullable(integer("Null: no limit.", 1)),
                "recipients_per_send": integer("To, Cc and Bcc together.", 1),
                "message_bytes": integer("Of a composed message, before signing.", 1),
            },
        ),
        "use": answer(
            "LimitsUse",
            {
                "requests_per_minute": _USE,
                "session_requests_per_minute": _USE,
                "sends_per_hour": _USE,
                "sends_per_day": _USE,
            },
            sometimes=("requests_per_minute", "session_requests_per_minute"),
        ),
    },
)
PROJECT_CHANGE = body(
    "ProjectChange",
    {
        "name": text(blank=False),
        "content_days": integer("Null: as long as the installation keeps it.", LEAST_DAYS, most_days()),
    },
)
RESTORE = body("RestoreProject", {"project_id": identifier()}, ["project_id"])
NEW_PROJECT = body(
    "NewProject", {"name": text(blank=False), "send_type": choice(SendType.values)}, ["name", "send_type"]
)
_GRANT: dict[str, Schema] = {"scopes": listed(SCOPE, maxItems=1000), "role": GIVEN_ROLE}
NEW_PROJECT_USER = body("NewProjectUser", {"user_id": identifier(), **_GRANT}, ["user_id"])
PROJECT_USER_CHANGE = body("ProjectUserChange", _GRANT, says="Either of the two; `scopes` may be empty.")
FOUND_PERSON = answer(
    "FoundPerson",
    {
        "id": identifier(),
        "role": string(),
        "user_id": identifier(),
        "user_username": nullable(string()),
        "user_email": string(),
        "user_picture_url": nullable(string()),
        "user_name": string(),
    },
)
PEOPLE_QUERY = {
    "search": text("A part of the name, address or login; the whole address for strangers."),
    "limit": integer("How many at most.", 1, MAX_FOUND, default=10),
    "offset": integer("How many to leave out.", 0, MAX_OFFSET, default=0),
}
EXAMPLE_PROJECT = {
    "id": 2,
    "created_at": 1795315070,
    "name": "Shop",
    "send_type": "transactional",
    "content_days": 30,
    "status": "active",
    "suspend_reason": None,
}

# --- Domains -------------------------------------------------------------------------------------------------------

RETURN_PATH = answer(
    "ReturnPath",
    {
        "host": string(examples=["bounces.example.com"]),
        "status": choice(ReturnPathStatus.values, "`active`: MAIL FROM names it."),
        "checked_at": nullable(moment()),
        "error_message": nullable(string()),
    },
)
DOMAIN = answer(
    "Domain",
    {
        "id": identifier(),
        "created_at": moment(),
        "domain": string(examples=["example.com"]),
        "status": choice(DomainStatus.values, "`active` and `warning` may send."),
        "status_changed_at": moment(),
        "dkim_selector": string(),
        "dkim_host": string("Where to publish the TXT record."),
        "dkim_public_key": string("PEM."),
        "dkim_txt_value": string("What to publish there."),
        "dkim_checked_at": nullable(moment()),
        "dkim_error_message": nullable(string("What was wrong when it was looked for last.")),
        "return_path": nullable(RETURN_PATH),
    },
)
NEW_DOMAIN = body(
    "NewDomain",
    {
        "domain": text("A full domain name; Unicode is stored as A-labels.", format="domain"),
        "dkim_selector": text("Default: one that is used once.", format="dns-label"),
        "dkim_private_key": text("Your own key: RSA of 1024 to 4096 bits, or Ed25519.", format="pem"),
    },
    ["domain"],
)
NAMED_DOMAIN = body(
    "NamedDomain",
    {"id": integer(), "domain": text(maximum=MAX_NAME)},
    says="Either of the two.",
)
BY_ID_OR_NAME = {"id": integer("The domain's id, or …"), "domain": text("… its name.", maximum=MAX_NAME)}
EXAMPLE_DOMAIN = {
    "id": 2,
    "created_at": 1795315071,
    "domain": "example.com",
    "status": "active",
    "status_changed_at": 1795315070,
    "dkim_selector": "rly20261122023750bda0a930",
    "dkim_host": "rly20261122023750bda0a930._domainkey.example.com",
    "dkim_public_key": "-----BEGIN PUBLIC KEY-----…",
    "dkim_txt_value": "v=DKIM1; k=rsa; p=…",
    "dkim_checked_at": 1795315070,
    "dkim_error_message": None,
    "return_path": None,
}
_SELECTOR = text("A DNS label. Default: one that is used once.", format="dns-label")
_RETURN_PATH = text("A host below the domain; null: none of its own.", maximum=MAX_NAME, format="host-below")
DOMAIN_DESCRIBED = body(
    "DomainDescribed",
    {"dkim_selector": _SELECTOR, "dkim_private_key": text(maximum=MAX_PEM, format="pem"), "return_path": _RETURN_PATH},
)
DOMAIN_CHANGE = body("DomainChange", {"return_path": _RETURN_PATH})
DKIM_KEY = answer(
    "DkimKey",
    {
        "id": identifier(),
        "state": choice(
            DkimKeyState.values, "`active` ones sign; the records of all but `retired` ones must be in DNS."
        ),
        "algorithm": choice(DkimAlgorithm.values),
        "is_current": boolean("Whether it signs first, and is shown as the domain's."),
        "selector": string(),
        "dkim_host": string("Where to publish the TXT record."),
        "dkim_txt_value": string("What to publish there."),
        "created_at": moment(),
        "activated_at": nullable(moment("When it began to sign.")),
        "retires_at": nullable(moment("Until then the record of a `retiring` one must stay.")),
        "checked_at": nullable(moment()),
        "error_message": nullable(string("What was wrong when it was looked for last.")),
    },
)
DNS_RECORD = answer(
    "DnsRecord",
    {
        "purpose": choice(Purpose),
        "type": string(examples=["TXT", "CNAME"]),
        "host": string(),
        "name": string("The host relative to the domain; `@` is the domain itself."),
        "value": string("What to publish."),
        "is_required": boolean("Else it is advised."),
        "state": choice(RecordState, "`unknown`: nobody answered."),
        "found": listed(string(), "What is there."),
        "why": string("What the record is for."),
        "advice": string("What is wrong, or what else there is to know."),
        "dkim_key_id": nullable(identifier()),
    },
)
DOMAIN_DNS = answer("DomainDns", {"domain": DOMAIN, "records": listed(DNS_RECORD), "checked_at": moment()})
EXAMPLE_DOMAIN_DNS = {
    "domain": EXAMPLE_DOMAIN,
    "records": [
        {
            "purpose": "dmarc",
            "type": "TXT",
            "host": "_dmarc.example.com",
            "name": "_dmarc",
            "value": "v=DMARC1; p=none; rua=mailto:dmarc@mail.example.org",
            "is_required": False,
            "state": "missing",
            "found": [],
            "why": "Gmail, Yahoo and Microsoft expect a DMARC policy.",
            "advice": "",
            "dkim_key_id": None,
        }
    ],
    "checked_at": 1795315071,
}
NEW_DKIM_KEY = body(
    "NewDkimKey",
    {
        "algorithm": choice(DkimAlgorithm.values, "Of a key that is generated; default: `rsa`."),
        "dkim_selector": _SELECTOR,
        "dkim_private_key": text("Your own key: RSA of 1024 to 4096 bits, or Ed25519.", maximum=MAX_PEM, format="pem"),
    },
)
EXAMPLE_DKIM_KEY = {
    "id": 7,
    "state": "pending",
    "algorithm": "rsa",
    "is_current": False,
    "selector": "march",
    "dkim_host": "march._domainkey.example.com",
    "dkim_txt_value": "v=DKIM1; k=rsa; p=…",
    "created_at": 1795315071,
    "activated_at": None,
    "retires_at": None,
    "checked_at": None,
    "error_message": None,
}

# --- API keys ------------------------------------------------------------------------------------------------------

_KEY_FIELDS: dict[str, Schema] = {
    "name": text(blank=False),
    "scopes": listed(SCOPE, minItems=1, maxItems=1000),
    "role": GIVEN_ROLE,
    "allowed_ips": listed(
        text(format="address-or-network"),
        "Addresses, or networks of IPv4 /24 to /32 and IPv6 /48 to /128; needed with `sends.send`.",
        maxItems=100,
    ),
    "expires_at": integer("Unix seconds in the future; null: never.", 0, LAST_MOMENT),
}
API_KEY = answer(
    "ApiKey",
    {
        "id": identifier(),
        "name": string(),
        "scopes": SCOPE_LIST,
        "role": ROLE_NAME,
        "allowed_ips": listed(string()),
        "key": nullable(string("The key itself, only in the answer that makes it.")),
        "created_at": moment(),
        "is_enabled": boolean(),
        "is_test": boolean("Whether what it sends goes to nobody."),
        "last_accessed_at": nullable(moment("Unix seconds, to the minute.")),
        "expires_at": nullable(moment()),
    },
)
NEW_API_KEY = body(
    "NewApiKey",
    {**_KEY_FIELDS, "is_test": boolean("A test key, for good: what it sends is answered by the simulator.")},
    ["name"],
    "Either `scopes` or `role` is needed.",
)
API_KEY_CHANGE = body("ApiKeyChange", {**_KEY_FIELDS, "is_enabled": boolean()})
EXAMPLE_API_KEY = {
    "id": 3,
    "name": "Shop's server",
    "scopes": ["sends.read", "sends.send"],
    "role": None,
    "allowed_ips": ["192.0.2.0/24"],
    "key": "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c",
    "created_at": 1795315070,
    "is_enabled": True,
    "is_test": False,
    "last_accessed_at": None,
    "expires_at": None,
}

# --- What a console asks -------------------------------------------------------------------------------------------

INIT = answer(
    "Init",
    {
        "project_users": listed(PROJECT_USER, "The person's memberships."),
        "config": answer(
            "InitConfig",
            {
                "deployment": string(examples=["on-prem"]),
                "hyvor": answer("InitInstance", {"instance": string("The installation's address.")}),
                "user": answer(
                    "InitUser",
                    {
                        "id": identifier(),
                        "name": string(),
                        "email": string(),
                        "picture_url": nullable(string()),
                        "is_sudo": boolean("Whether the person is staff."),
                    },
                ),
                "app": answer(
                    "InitApp",
                    {
                        "system_project_id": nullable(identifier()),
                        "webhook": answer("InitWebhook", {"events": listed(string())}),
                        "api_keys": answer("InitApiKeys", {"scopes": SCOPE_LIST, "roles": listed(ROLE)}),
                        "compliance": answer("InitCompliance", {"rates": mapped(number())}),
                    },
                ),
            },
        ),
        "organization": answer("Organization", {"id": integer(), "name": string(), "role": string()}),
    },
)
INIT_PROJECT = answer("InitProject", {"project": PROJECT})
