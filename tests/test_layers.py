"""Who may import whom: the contracts of pyproject.toml hold, and a planted import of each wrong kind breaks one."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["importlinter"]["root_packages"]
LAYERS: list[str] = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
APPS = [package for package in PACKAGES if package != "relay_project"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts over the packages in a folder."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contracts, to plant in."""
    folder = tmp_path_factory.mktemp("planted")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "migrations"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("planted_in", "line", "broken"),
    [
        ("accounts/audit.py", "import sending.models", "Floors: imports go down only"),
        ("relay_project/db/ids.py", "import projects.models", "Floors: imports go down only"),
        ("projects/events.py", "import relay_project.dashboard", "Floors: imports go down only"),
        ("relay_project/mail/reply.py", "import socket", "The mail floor is pure"),
        ("relay_project/mail/reply.py", "from django.conf import settings", "The mail floor is pure"),
        ("relay_project/net/addresses.py", "from django.db import connection", "The network floor knows no ORM"),
        ("sending/content.py", "import sending.admin", "Surfaces are imported by URLs and processes only"),
        ("ips/assign.py", "from queues import admin", "Surfaces are imported by URLs and processes only"),
        ("projects/access.py", "import projects.console", "Pages are imported by URLs"),
        ("projects/models/project.py", "import projects.access", "projects: models know no rules"),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, planted_in: str, line: str, broken: str) -> None:
    file = copy / planted_in
    before = file.read_text()
    file.write_text(f"{before}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        file.write_text(before)
    assert result.returncode == 1, result.stdout + result.stderr
    assert [said for said in result.stdout.splitlines() if said.startswith(broken) and said.rstrip().endswith("BROKEN")]


def test_every_module_of_the_project_package_has_a_floor() -> None:
    """A new module that no layer names would be free to import anything."""
    named = {name.strip(" ()") for layer in LAYERS for name in layer.split(" : ")}
    here = {f"relay_project.{path.stem}" for path in (ROOT / "relay_project").glob("*.py") if path.stem != "__init__"}
    here |= {f"relay_project.{path.parent.name}" for path in (ROOT / "relay_project").glob("*/__init__.py")}
    assert here - named == {"relay_project.migrations"}


def test_every_app_has_a_floor_and_its_models_a_contract() -> None:
    contracts = {contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    assert [app for app in APPS if app not in LAYERS] == []
    with_models = [app for app in APPS if (ROOT / app / "models").exists() or (ROOT / app / "models.py").exists()]
    assert [app for app in with_models if f"{app}: models know no rules" not in contracts] == []
