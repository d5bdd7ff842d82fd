# `make` alone lists the targets. Two of them are all a newcomer needs: `make run` and `make test`.

# Given on the command line: make PYTHON=python3.13 run ARGS='--port 9000'
PYTHON := python3
VENV := .venv
ARGS :=
# Tests wait for processes and deadlines half of their time: two more than there are cores.
JOBS := $(shell expr $$(nproc) + 2)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

# Debian packages that tests of `make test` call; without them those tests are skipped, and counted.
APT_PACKAGES := strace e2fsprogs xfsprogs redis-server prometheus chromium nginx-light caddy systemd zsh fish
APT_COMMANDS := strace mkfs.ext4 mkfs.xfs redis-server prometheus promtool chromium nginx caddy systemd-analyze zsh fish

# The tests of `make check`: those that start no process, wait for no deadline and compare no engines at length.
UNIT := $(addprefix tests/,core store broker observe transport) $(wildcard tests/test_*.py) \
  $(addprefix --ignore tests/,store/test_model.py transport/server)

# Brokers are started by the hundred: their code is compiled once, whatever this machine says of that.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test check soak bench docs format lock build clean apt

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start the broker, with its data in ./data (ARGS='--port 9000')
	@exec $(BIN)/python -m streambroker serve $(ARGS)

demo: $(VENV)/.workers ## real work through a broker of its own: two workers, a retry, a dead letter
	@$(BIN)/python -m workers.demo

test: apt $(VENV)/.dev $(VENV)/.npm ## every test, in parallel (JOBS=, ARGS=)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS) || if [ $$? = 1 ]; then $(ALONE); else exit 1; fi

# What failed in the crowd, once more and by itself. What fails then too is red; what passes is a race, of the test or
# of the broker, that the output above shows: it stops nobody's change, and wants mending.
ALONE = echo "=== once more, one at a time: what failed above ===" && \
  $(BIN)/python -m pytest --last-failed --last-failed-no-failures=none --maxfail=1 $(ARGS) && \
  echo "=== green, but not at first: mend what the run above says of it ==="

check: $(VENV)/.dev $(VENV)/.npm ## the fast gate: format, lint, types, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not system" $(UNIT) $(ARGS)

# The names must not begin with STREAMBROKER_: brokers refuse to start with a setting that there is not.
soak: apt $(VENV)/.dev $(VENV)/.npm ## the system tests for long (KILLS=, MESSAGES=, STOPS=, CUTS=)
	SBTEST_KILLS=$(or $(KILLS),500) SBTEST_MESSAGES=$(or $(MESSAGES),1000000) \
	SBTEST_STOPS=$(or $(STOPS),100) SBTEST_CUTS=$(or $(CUTS),50) \
	  $(BIN)/python -m pytest -x $(or $(ARGS),tests/system)

bench: $(VENV)/.bench ## measure this broker beside Redis and NATS, and write a table
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.dev ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "build/site/index.html"

format: $(VENV)/.dev ## put the code into the form that `make check` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(VENV)/.run ## a wheel in dist/
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## everything made here but the data and the virtual environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --- the virtual environment -------------------------------------------------------------------------------------
# A stamp per requirements file; each is installed by hash, then the project itself, editable, without dependencies.

STAMPS := $(addprefix $(VENV)/.,run workers dev bench)
INSTALL := $(PIP) install --quiet --disable-pip-version-check

$(STAMPS): $(VENV)/.%: requirements/%.txt requirements/build.txt pyproject.toml | $(BIN)/pip
	$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/$*.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# What tests take from the npm registry; Node.js itself came with the rest of `dev`.
$(VENV)/.npm: tests/npm/package-lock.json $(VENV)/.dev
	cd tests/npm && PATH="$(abspath $(BIN)):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streambroker needs Python 3.11 or newer: make PYTHON=/path/to/it …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || if [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; else \
	  echo "Python's venv module is not complete here: sudo apt-get install python3-venv" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)

apt:
	@missing=; for command in $(APT_COMMANDS); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $$command >/dev/null || missing="$$missing $$command"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT_PACKAGES); \
	else echo "Not found:$$missing. The tests that need them will be skipped; to run them too, once, as root:" >&2; \
	  echo "  apt-get install $(APT_PACKAGES)" >&2; fi

# --- pinned versions ---------------------------------------------------------------------------------------------
# Resolved together once, so that every file names the same version of a package, then written one by one with hashes
# and without the address of any index. Run it on Python 3.11: what 3.12 and 3.13 need is a part of that.

COMPILE = build/lock/venv/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
  --no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
PINNED = $(COMPILE) --constraint build/lock/all.txt

lock: ## pin the dependencies anew (UPGRADE=1: to the newest versions that pyproject.toml allows)
	@mkdir -p build/lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
	test -d build/lock/venv || $(PYTHON) -m venv build/lock/venv
	build/lock/venv/bin/pip install --quiet pip-tools
	cp requirements/dev.txt build/lock/all.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra workers --extra dev --extra bench -o build/lock/all.txt pyproject.toml
	rm -f build/lock/[!a]*.txt
	$(PINNED) --only-build-deps --build-deps-for editable --build-deps-for wheel \
	  -o build/lock/build.txt pyproject.toml
	$(PINNED) -o build/lock/run.txt pyproject.toml
	$(PINNED) --extra cert --extra cli --extra graphql --extra otel --extra redis --extra webhooks \
	  -o build/lock/image.txt pyproject.toml
	$(PINNED) --extra workers -o build/lock/workers.txt pyproject.toml
	$(PINNED) --extra dev -o build/lock/dev.txt pyproject.toml
	$(PINNED) --extra bench -o build/lock/bench.txt pyproject.toml
	for name in build run image workers dev bench; do \
	  { echo "# Written by \`make lock\` from pyproject.toml."; cat build/lock/$$name.txt; } > requirements/$$name.txt; done
