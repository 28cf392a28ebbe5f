"""The documentation keeps up: what an operator or a client can name is described, and links lead somewhere.

Names are read from the code itself (its syntax where running it would want a database), so nothing here needs one.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import autodiscover_modules
from rest_framework.views import APIView

from projects.event_examples import EXAMPLES
from projects.event_registry import END, REGISTRY, page_text
from projects.events import EventKind
from projects.scopes import SCOPES
from relay_project import health, verify
from relay_project.mail.classify import Category
from relay_project.mail.headers import FORBIDDEN_HEADERS
from relay_project.mail.simulator import Kind
from relay_project.web.openapi import document, operations
from sending.models import RecipientStatus

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("relay_project", "accounts", "projects", "queues", "ips", "sending", "webhooks")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# Set by a process for itself, or everybody's: nobody is asked to set them.
NOT_SETTINGS = {
    "RELAY_QUICKSTART_PID",
    "PROMETHEUS_MULTIPROC_DIR",
    "PATH",
    "PYTHONPATH",
    "NO_COLOR",
    "DJANGO_SETTINGS_MODULE",
}
INSIDE_READERS = {"APP_SECRET", "APP_SECRETS_OLD"}  # read_secrets() names them itself
METRIC_CLASSES = {"Counter", "Gauge", "Histogram"}
OPTIONS_OF_DJANGO = {"help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color"}
OPTIONS_OF_DJANGO |= {"skip_checks"}
METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
NOT_DESCRIBED = {  # the document itself, a probe, and where browsers are sent
    "GET /api/openapi.json",
    "GET /api/doc.json",
    "GET /api/docs",
    "GET /api/health",
    "GET /api/oidc/callback",
}
NOT_HTTP_API = {"api/<path:rest>"}  # the answer to unknown routes


@cache
def page(name: str) -> str:
    """A page's text."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of ours, parsed."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return tuple(
        (path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths if "migrations" not in path.parts
    )


def calls(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """(name of what is called, its constant string arguments) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def missing(names: Iterable[str], text: str) -> list[str]:
    """The names that do not stand in a page as code."""
    return sorted(name for name in set(names) if f"`{name}`" not in text)


# --- Settings ------------------------------------------------------------------------------------------------------


def setting_names() -> set[str]:
    """What settings.py reads from the environment, by its readers or by os.environ, and RELAY_* of any module."""
    settings = ast.parse((ROOT / "relay_project" / "settings.py").read_text(encoding="utf-8"))
    found = set(INSIDE_READERS)
    for name, strings in calls(settings):
        if name.startswith("read_") or name in {"str", "bool", "int", "list", "db_url", "get"}:
            found |= {text for text in strings if re.fullmatch(r"[A-Z][A-Z_]+", text)}
    for path, tree in modules():
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if re.fullmatch(r"RELAY_[A-Z_]+", node.value)
            or (path.name == "settings.py" and node.value.startswith("PROBE_"))
        }
    return found - NOT_SETTINGS


def documented_settings() -> set[str]:
    """The first column of the tables of docs/settings.md."""
    return set(re.findall(r"^\| `([A-Z][A-Z_]+)` \|", page("docs/settings.md"), re.MULTILINE))


def test_every_setting_has_its_row() -> None:
    names = setting_names()
    assert {"APP_SECRET", "WEB_URL", "RETRY_SCHEDULE", "PROBE_SANDBOX", "RELAY_PG_BIN"} <= names  # the reading works
    assert sorted(names - documented_settings()) == []


def test_no_row_is_about_a_setting_that_is_gone() -> None:
    assert sorted(documented_settings() - setting_names()) == []


def test_numbers_in_the_settings_page_are_the_defaults() -> None:
    """Every reader of a whole number, and the retry schedule, with a default that the source spells out."""
    rows = dict(re.findall(r"^\| `([A-Z][A-Z_]+)` \| `([^`]+)` \|", page("docs/settings.md"), re.MULTILINE))
    tree = ast.parse((ROOT / "relay_project" / "settings.py").read_text(encoding="utf-8"))
    wrong = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {
            "read_positive",
            "read_schedule",
            "read_endpoint",
        }:
            name = ast.literal_eval(node.args[1])
            default = next(_value(keyword.value) for keyword in node.keywords if keyword.arg == "default")
            if rows.get(name) != str(default):
                wrong[name] = (rows.get(name), default)
    assert wrong == {}


def _value(node: ast.expr) -> Any:
    """A constant or a product of constants."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _value(node.left) * _value(node.right)
    return ast.literal_eval(node)


# --- Commands ------------------------------------------------------------------------------------------------------


def our_commands() -> list[str]:
    """The names of our apps' management commands."""
    return sorted(name for name, app in get_commands().items() if str(app).partition(".")[0] in PACKAGES)


@pytest.mark.parametrize("name", our_commands())
def test_every_command_is_described_with_its_options(name: str) -> None:
    text = page("docs/commands.md")
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/commands.md has no section for {name}"
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    options = [
        action.option_strings[-1]
        for action in parser._actions
        if action.option_strings and action.dest not in OPTIONS_OF_DJANGO and action.help != "==SUPPRESS=="
    ]
    assert [option for option in options if option not in section[1]] == []


def test_every_check_of_verify_is_named() -> None:
    assert missing(verify.NAMES, page("docs/commands.md")) == []


# --- The API -------------------------------------------------------------------------------------------------------


def api_routes() -> Iterator[tuple[str, Any]]:
    """(route, view) of everything below /api."""
    for route, view in _routes(get_resolver().url_patterns, ""):
        if route.startswith("api/") and route not in NOT_HTTP_API:
            yield route, view


def _routes(patterns: Iterable[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


def api_calls() -> list[str]:
    """`GET /api/console/sends/{id}` and so on: each method that a view answers."""
    found = []
    for route, view in api_routes():
        shown = "/" + re.sub(r"<\w+:(?:\w+_)?(\w+)>", r"{\1}", route)
        found += [f"{method} {shown}" for method in _methods(view)]
    return sorted(found)


def _methods(view: Any) -> list[str]:
    view_class = getattr(view, "cls", getattr(view, "view_class", None))
    if view_class is None:  # a plain function: the hot endpoint answers what its section says, the others only look
        return ["GET", "POST"] if view.__name__ == "sends" else ["GET"]
    methods = [method for method in METHODS if hasattr(view_class, method.lower())]
    return methods if issubclass(view_class, APIView) else ["GET"]


def api_pages() -> str:
    """What projects may call, and what staff may."""
    return page("docs/api.md") + page("docs/staff-api.md")


def test_every_api_call_has_its_section() -> None:
    calls_made = api_calls()
    assert "POST /api/console/sends" in calls_made
    headings = set(re.findall(r"^### (.+)$", api_pages(), re.MULTILINE))
    assert [call for call in calls_made if call not in headings] == []


def test_no_section_is_about_a_call_that_is_gone() -> None:
    headings = re.findall(rf"^### ((?:{'|'.join(METHODS)}) .+)$", api_pages(), re.MULTILINE)
    assert [heading for heading in headings if heading not in api_calls()] == []


def test_every_api_call_describes_itself() -> None:
    """By @describe: docs/development.md, "Add an API call"."""
    described = {f"{method} {_short(path)}" for path, method, _ in operations(document())}
    assert [call for call in api_calls() if call not in described | NOT_DESCRIBED] == []


def _short(path: str) -> str:
    """`/sends/{id}` for `/sends/{send_id}`."""
    return re.sub(r"{\w+_(\w+)}", r"{\1}", path)


def test_every_section_names_the_scope_that_the_view_asks_for() -> None:
    text = page("docs/api.md")
    wrong = []
    for route, view in api_routes():
        shown = "/" + re.sub(r"<\w+:(?:\w+_)?(\w+)>", r"{\1}", route)
        for method, scope in getattr(getattr(view, "cls", None), "required_scope", {}).items():
            section = re.search(rf"^### {method} {re.escape(shown)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
            if section is None or f"Scope `{scope}`" not in section[1]:
                wrong.append(f"{method} {shown}: {scope}")
    assert wrong == []


def test_scopes_and_forbidden_headers_are_all_named() -> None:
    assert missing(map(str, SCOPES), page("docs/api.md")) == []
    assert missing(FORBIDDEN_HEADERS, page("docs/api.md").lower()) == []


# --- Events, states, verdicts, mailboxes ---------------------------------------------------------------------------


def test_the_page_of_events_is_what_the_registry_writes() -> None:
    text = page("docs/events.md")
    assert page_text(text) == text, "manage.py events --write"
    assert set(REGISTRY) == set(EXAMPLES) == set(EventKind)
    assert missing((kind.value for kind in EventKind), text) == []


def test_no_line_of_the_page_of_events_is_too_wide() -> None:
    prose = page("docs/events.md").replace(END, "")
    assert [line for line in prose.splitlines() if line.startswith("    ") and len(line) > 120] == []


def test_every_event_is_written_by_somebody() -> None:
    """By its name, or as the outcome of a try. Pages, examples and the registry only talk of it."""
    talk = {"events.py", "event_registry.py", "event_examples.py"}
    written = {f"send.recipient.{status}" for status in RecipientStatus.values}
    for path, tree in modules():
        if path.name in talk or {"console", "api", "bench"} & set(path.parts):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                written.add(node.value)
            elif isinstance(node, ast.Attribute) and _is_event_kind(node):
                written.add(EventKind[node.attr].value)
    assert [kind.value for kind in EventKind if kind.value not in written] == []


def _is_event_kind(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "EventKind" and node.attr in EventKind.__members__


def test_states_and_categories_are_explained() -> None:
    assert missing(RecipientStatus.values, page("docs/delivery.md")) == []
    assert missing((category.value for category in Category), page("docs/delivery.md")) == []


def test_every_mailbox_and_every_dns_label_of_the_sandbox_is_explained() -> None:
    assert missing((kind.value for kind in Kind), page("docs/sandbox.md")) == []
    docstring = ast.get_docstring(ast.parse((ROOT / "relay_project/sandbox/dns.py").read_text(encoding="utf-8"))) or ""
    labels = re.findall(r"`([a-z-]+)`", docstring.partition("first label")[2])
    assert labels
    assert missing(labels, page("docs/sandbox.md")) == []


# --- Metrics and health --------------------------------------------------------------------------------------------


def metric_names() -> set[str]:
    """The name of every Counter, Gauge and Histogram that is declared with one."""
    return {
        strings[0]
        for _, tree in modules()
        for name, strings in calls(tree)
        if name in METRIC_CLASSES and strings and re.fullmatch(r"[a-z]+_[a-z_]+", strings[0])
    }


def documented_metrics() -> set[str]:
    """The first column of the table of metrics."""
    table = page("docs/metrics.md").partition("## Metrics")[2]
    return set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))


def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    assert "email_queue_size" in metric_names()
    assert documented_metrics() == metric_names()


def test_every_health_check_has_its_row() -> None:
    autodiscover_modules("health")
    assert missing(health._checks, page("docs/metrics.md")) == []


# --- Links ---------------------------------------------------------------------------------------------------------


def links(path: Path) -> list[str]:
    """Targets of Markdown links and of images, code left out."""
    text = re.sub(r"^(?: {4}|```).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def test_every_page_is_on_the_map_of_the_readme() -> None:
    assert [
        page.name
        for page in PAGES
        if page.parent.name == "docs" and f"(docs/{page.name})" not in (ROOT / "README.md").read_text()
    ] == []
