# `make run` starts the whole service on a bare machine; the other targets are for working on it.

# Another interpreter: make PYTHON=python3.12 run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# `make lock` has its tool in a place of its own: pip-tools would bring pip itself into the lock.
LOCK_VENV := build/lock
PIP := pip --disable-pip-version-check --quiet
LOCK := pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# Most tests wait for processes and browsers; two at a time keep two cores busy without starving what they wait for.
TEST_PROCESSES ?= 2

.PHONY: run test bench bench-stream lint format lock clean
.DELETE_ON_ERROR:

# exec: a Ctrl-C and the exit status are the service's own, without a shell in between.
run: $(INSTALLED)
	@exec $(BIN)/scoreboard run

test: $(INSTALLED)
	@exec $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Whole flows a second beside a naive variant, draining, big boards: about ten minutes. A quick look:
# BENCH="--only closed --connections 64 --seconds 10"
bench: $(INSTALLED)
	@exec $(BIN)/python -m benchmarks.flows $(BENCH)

# Streams to ten thousand clients, in about five minutes; BENCH="--clients 100 --seconds 5" for a quick look.
bench-stream: $(INSTALLED)
	@exec $(BIN)/python -m benchmarks.stream $(BENCH)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Newer versions of everything; `make LOCK_OPTIONS= lock` only adds what requirements*.in newly name.
LOCK_OPTIONS ?= --upgrade
lock:
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/$(PIP) install pip-tools==7.6.2
	CUSTOM_COMPILE_COMMAND="make lock" $(LOCK_VENV)/bin/$(LOCK) $(LOCK_OPTIONS) -o requirements.txt requirements.in
	CUSTOM_COMPILE_COMMAND="make lock" $(LOCK_VENV)/bin/$(LOCK) $(LOCK_OPTIONS) -o requirements-dev.txt requirements-dev.in

# Data and logs in var/ stay.
clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# Made again when the requirements change. requirements-dev.txt holds all of requirements.txt, and the local servers.
$(INSTALLED): requirements-dev.txt pyproject.toml
	$(if $(shell $(PYTHON) -c 'import sys; print("ok" if sys.version_info >= (3, 11) else "")' 2>/dev/null),,$(error Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3.11))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv; print("ok")' 2>/dev/null),,$(error This Python cannot make virtual environments; on Debian: apt-get install python3-venv))
	@echo "Installing what the service needs into $(VENV); only this once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/$(PIP) install --require-hashes --requirement requirements-dev.txt
	@$(BIN)/$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
