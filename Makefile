# Relay. `make run` shows the first mail on its way, `make test` checks everything.
# Needed: Linux, make and Python 3.11 or newer. `make help` lists the rest.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input -qq
ARGS ?=

# What is looked at, in this order, for a Python that is new enough (`make setup WITH=/path/to/python` names one).
WITH ?=
CANDIDATES := $(or $(WITH),python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3)

.PHONY: help setup setup-dev run test lint lock bench bench-full bench-peers chaos clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# A stamp is a copy of the lock that was installed: the packages are touched again only when the lock has changed.
setup: ## make .venv from requirements.txt
	@$(make_venv)
	$(call install,requirements.txt,$(VENV)/requirements.installed)

setup-dev: setup
	@$(call install,tests/requirements.txt,$(VENV)/tests-requirements.installed)

run: setup ## start everything and send the first mail (ARGS="--port 8001")
	@exec $(PYTHON) manage.py quickstart $(ARGS)

test: setup-dev lint ## lint, types and all tests (ARGS="tests/mail -x")
	@$(find_tools)
	$(run_tests)

lint: setup-dev ## ruff and mypy
	@$(PYTHON) -m ruff check --quiet .
	$(PYTHON) -m mypy --no-error-summary .
	echo "ruff and mypy: nothing to complain about."

lock: setup-dev ## pin requirements.txt and tests/requirements.txt anew from pyproject.toml
	@lock="$(PYTHON) -m uv pip compile --quiet --universal --generate-hashes --python-version 3.11 $(ARGS) pyproject.toml"
	export UV_CUSTOM_COMPILE_COMMAND="make lock"
	$$lock -o requirements.txt
	$$lock --extra dev --constraint requirements.txt -o tests/requirements.txt

bench: setup ## the quick benchmarks (under three minutes)
	@exec $(PYTHON) manage.py bench quick $(ARGS)

bench-full: setup ## all benchmarks (about 25 minutes and 25 GB of disk); writes docs/benchmarks and its pages
	@echo "About 25 minutes on a quiet machine; a history of 10 million recipients is made once and kept (it says where)."
	$(PYTHON) manage.py bench full $(ARGS)
	exec $(PYTHON) manage.py bench render

bench-peers: setup ## against Postfix with OpenDKIM, which it installs as root where there is apt-get
	@$(find_peers)
	exec $(PYTHON) manage.py bench peers --repeat 3 --results docs/benchmarks $(ARGS)

chaos: setup ## kill and starve every process under load, and count the mail (about 40 minutes)
	@exec $(PYTHON) manage.py chaos --results docs/benchmarks/chaos.json $(ARGS)

clean: ## remove .venv and caches (.relay, your data, stays)
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .relay-static
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- The steps, as shell -----------------------------------------------------------------------------------------

# The first candidate that is new enough makes the venv. Debian splits ensurepip off into python3-venv.
define make_venv
new_enough() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
can_make_venv() { "$$1" -c 'import ensurepip, venv' 2>/dev/null; }
find_python() {
    for python in $(CANDIDATES); do if new_enough "$$python" && can_make_venv "$$python"; then echo "$$python"; return; fi; done
    for python in $(CANDIDATES); do if new_enough "$$python"; then echo "$$python"; return; fi; done
}
if ! { new_enough $(PYTHON) && $(PYTHON) -c 'import pip' 2>/dev/null; }; then
    python="$$(find_python)"
    if [ -z "$$python" ]; then
        echo "Relay needs Python 3.11 or newer, and none of these is: $(CANDIDATES)." >&2; exit 1
    fi
    if ! can_make_venv "$$python" && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        $(call apt_install,python3-venv)
    fi
    if ! can_make_venv "$$python"; then
        echo "$$python cannot make a virtual environment: install the package python3-venv and try again." >&2; exit 1
    fi
    echo "Making $(VENV) with $$("$$python" --version) …"
    "$$python" -m venv --clear $(VENV)
fi
endef

# A failure is not the end: the caller looks whether the program is there. No service is started by it (policy-rc.d).
define apt_install
echo "Installing $(1) …"
policy=/usr/sbin/policy-rc.d
if [ -e "$$policy" ]; then policy=/dev/null; else printf '#!/bin/sh\nexit 101\n' >"$$policy"; chmod +x "$$policy"; fi
{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1); } >/dev/null 2>&1 </dev/null || true
if [ "$$policy" != /dev/null ]; then rm -f "$$policy"; fi
endef

# $(1) the lock, $(2) its stamp.
define install
if ! cmp -s $(1) $(2); then
    echo "Installing the packages of $(1) …"
    $(PIP) install --require-hashes --no-deps -r $(1)
    cp $(1) $(2)
fi
endef

# A test's marker, the Debian package it needs, and the programs of which one is enough.
TOOLS := \
    browser:chromium:chromium,chromium-browser,google-chrome \
    opendkim:opendkim:opendkim \
    postfix:postfix:postfix \
    swaks:swaks:swaks \
    node:nodejs:node,nodejs

# Installs what is missing where it may. Tests whose program is not there are left out, except in continuous integration
# (CI=true). Leaves pytest's arguments in "$@".
define find_tools
PATH="$$PATH:/usr/sbin:/sbin"
has_any() { (IFS=,; for program in $$1; do command -v "$$program" >/dev/null && exit 0; done; exit 1); }
# A machine has one mail server, and apt would take away the one that is there.
displaces() { [ "$$1" = postfix ] && command -v sendmail >/dev/null; }
left_out=""
for tool in $(TOOLS); do
    marker="$${tool%%:*}"; programs="$${tool##*:}"; package="$${tool#*:}"; package="$${package%%:*}"
    if ! has_any "$$programs" && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! displaces "$$package"; then
        $(call apt_install,$$package)
    fi
    if has_any "$$programs"; then continue; fi
    if [ "$${CI:-}" = true ]; then echo "$$package is missing, and CI=true leaves no test out." >&2; exit 1; fi
    echo "$$package is not installed: the tests marked \"$$marker\" are left out."
    left_out="$${left_out:+$$left_out and }not $$marker"
done
endef

# Those with real processes, clocks and browsers wait more than they work: they run beside the cheap ones, which are on every
# core and give way to them. What they say comes at the end.
define run_tests
slow="journey or browser or postfix"
chosen() { echo "$$1$${left_out:+ and $$left_out}"; }
$(if $(ARGS),$(PYTHON) -m pytest -m "$$(chosen "not nothing")" $(ARGS); exit)
failed=0; said="$$(mktemp)"
$(PYTHON) -m pytest -m "$$(chosen "($$slow)")" -n 2 --dist loadfile >"$$said" 2>&1 & beside="$$!"
trap 'kill "$$beside" 2>/dev/null || true; rm -f "$$said"' EXIT
trap 'exit 130' INT TERM
nice -n 5 $(PYTHON) -m pytest -m "$$(chosen "not ($$slow)")" -n auto --dist loadfile || failed=1
echo "Waiting for the tests with real processes and browsers …"
wait "$$beside" || failed=1
cat "$$said"
exit $$failed
endef
