# `make run` starts the whole service on a bare machine; the other targets are for working on it.

# Another interpreter: make PYTHON=python3.12 run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the service and its local servers need, and what the tests and checks need on top.
INSTALLED := $(VENV)/.installed
DEV_INSTALLED := $(VENV)/.installed-dev
# What looks after the dependencies has a place of its own, as it would meddle with their versions.
TOOLS_VENV := build/tools
TOOLS := $(TOOLS_VENV)/bin
TOOLS_INSTALLED := $(TOOLS_VENV)/.installed
PIP := pip --disable-pip-version-check --quiet
LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(TOOLS)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# Most tests wait for processes and browsers: with three at a time two cores are busy for 60 % of it, and none starves.
TEST_PROCESSES ?= 3

# What builds and checks the browser's files, by npm; running the service needs none of it.
FRONTEND_INSTALLED := frontend/node_modules/.installed

.PHONY: run assets test test-debian test-faults test-fuzz test-models mutations bench bench-stream lint format lock audit sbom clean
.DELETE_ON_ERROR:

# exec: a Ctrl-C and the exit status are the service's own, without a shell in between.
run: $(INSTALLED)
	@exec $(BIN)/scoreboard run

# After a change to the scripts and styles in scoreboard/web/static: what the pages load. Commit the result with it.
assets: $(FRONTEND_INSTALLED)
	@exec $(PYTHON) frontend/build.py

# A file is one piece of work. In the order of their folders the short ones, tests/unit, come last, and the processes end
# together; the default is by the number of tests, which leaves the benchmarks, one long test each, to the end.
# A test beside others may wait longer than one alone; those that need more say so.
SHARED_OUT := --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --timeout 150
# A command to hand them to: make TEST_RUNNER=.ci/again test, as CI does
TEST_RUNNER ?=
test: $(DEV_INSTALLED)
	@exec $(TEST_RUNNER) $(BIN)/python -m pytest $(SHARED_OUT)

# Every fault at length, one after the other: about half an hour. It writes the table in docs/reliability.md.
test-faults: $(DEV_INSTALLED)
	@exec $(BIN)/python -m pytest tests/faults --long

# Every operation of the API's description with thousands of right and wrong requests of every kind of caller.
test-fuzz: $(DEV_INSTALLED)
	@exec $(BIN)/python -m pytest tests/security/test_openapi_fuzz.py --long

# The model-based tests with many more examples, others each time: about seven minutes. MODEL_EFFORT=10 is quicker.
MODEL_EFFORT ?= 40
test-models: $(DEV_INSTALLED)
	@MODEL_EFFORT=$(MODEL_EFFORT) exec $(BIN)/python -m pytest \
		tests/integration/test_life_cycle_model.py tests/integration/test_order_properties.py

# Takes safeguards out of a copy of the tree, one by one, and fails unless a test notices each: two minutes.
# MUTATION=lock-order is one of them.
mutations: $(DEV_INSTALLED)
	@exec $(BIN)/python -m tests.mutations $(MUTATION)

# What speaks to the servers, on those of Debian 12: every statement and script, whole flows with their stream, and
# servers that are killed. Debian 13: make TEST_SERVERS="postgresql-17 valkey-8" test-debian
TEST_SERVERS ?= postgresql-15 redis-7
DEBIAN_STORES := backlog caller_lookup hub intake left_behind limits lock_order migrations prepared publish_interface \
	read_board releases settling standings statements
# What a Redis of Debian's can be besides: a replica and back, full, of few rights, behind TLS, an older copy of itself.
DEBIAN_REFUSALS := replica full rights_taken
DEBIAN_TESTS := tests/faults/test_redis_faults.py::test_killed_and_empty \
	$(DEBIAN_REFUSALS:%=tests/faults/test_redis_refusals.py::test_whatever_redis_refuses_with_is_waited_for[%]) \
	tests/faults/test_redis_accounts.py tests/faults/test_redis_copies.py \
	tests/faults/test_postgres_faults.py::test_immediate_restart tests/functional/test_stream.py \
	$(DEBIAN_STORES:%=tests/integration/test_%.py)
test-debian: $(DEV_INSTALLED)
	@TEST_SERVERS="$(TEST_SERVERS)" exec $(TEST_RUNNER) $(BIN)/python -m pytest $(SHARED_OUT) $(DEBIAN_TESTS:%='%')

lint: $(DEV_INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Whole flows a second beside a naive variant, draining, big boards: about ten minutes. A quick look:
# BENCH="--only closed --connections 64 --seconds 10"
bench: $(DEV_INSTALLED)
	@exec $(BIN)/python -m benchmarks.flows $(BENCH)

# Streams to ten thousand clients, in about five minutes; BENCH="--clients 100 --seconds 5" for a quick look.
bench-stream: $(DEV_INSTALLED)
	@exec $(BIN)/python -m benchmarks.stream $(BENCH)

format: $(DEV_INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Newer versions of everything; `make LOCK_OPTIONS= lock` only adds what requirements/*.in newly name.
LOCK_OPTIONS ?= --upgrade
# In this order: later ones take over the versions of earlier ones.
LOCKS := local dev pip tools
lock: $(TOOLS_INSTALLED)
	$(LOCK) $(LOCK_OPTIONS) -o requirements.txt requirements/service.in
	set -e; for name in $(LOCKS); do $(LOCK) $(LOCK_OPTIONS) -o requirements/$$name.txt requirements/$$name.in; done

# Whether a vulnerability is known in anything the lock files name. Ends with 1 when there is, with 3 when the service
# could not be asked about everything (make says "Error 3"). Another one: make AUDIT_OPTIONS="-s pypi" audit
AUDIT_OPTIONS ?= --vulnerability-service osv
audit: $(TOOLS_INSTALLED)
	@$(TOOLS)/python -m supply.audit $(AUDIT_OPTIONS)

# build/sbom.json: what a deployment installs, with versions, licences and hashes, and a check of the licences.
sbom: $(TOOLS_INSTALLED)
	@rm -rf build/deployment
	$(call environment,build/deployment,requirements.txt)
	@build/deployment/bin/$(PIP) uninstall --yes setuptools pip
	@$(TOOLS)/python -m supply.sbom build/deployment build/sbom.json

# Data and logs in var/ stay.
clean:
	rm -rf $(VENV) build frontend/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# An environment with what a list names, made or brought up to date: $(call environment,FOLDER,LIST)
define environment
	$(if $(shell $(PYTHON) -c 'import sys; print("ok" if sys.version_info >= (3, 11) else "")' 2>/dev/null),,$(error Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3.11))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv; print("ok")' 2>/dev/null),,$(error This Python cannot make virtual environments; on Debian: apt-get install python3-venv))
	@echo "Installing $(2) into $(1); only this once"
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/$(PIP) install --require-hashes --requirement requirements/pip.txt
	@# What has no wheel is built with the locked setuptools, not with whatever an isolated build would fetch.
	@$(1)/bin/$(PIP) install --no-build-isolation --require-hashes --requirement $(2)
endef

# The tree itself. Setuptools warns at length of what a tree of this shape may do to others in the same environment.
editable = @PYTHONWARNINGS=ignore $(BIN)/$(PIP) install --no-deps --no-build-isolation --editable .

# Made again when the requirements change. Each list holds all of the one before it.
$(INSTALLED): requirements/local.txt requirements/pip.txt pyproject.toml
	$(call environment,$(VENV),requirements/local.txt)
	$(editable)
	@touch $@

$(DEV_INSTALLED): requirements/dev.txt requirements/pip.txt pyproject.toml
	$(call environment,$(VENV),requirements/dev.txt)
	$(editable)
	@touch $(INSTALLED) $@

# No package's own scripts run: esbuild's binary and TypeScript's are in packages of their own.
$(FRONTEND_INSTALLED): frontend/package-lock.json
	@command -v npm > /dev/null || { echo "npm is needed for the browser's files; on Debian: apt-get install npm" >&2; exit 1; }
	@npm ci --prefix frontend --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null
	@touch $@

$(TOOLS_INSTALLED): requirements/tools.txt requirements/pip.txt
	$(call environment,$(TOOLS_VENV),requirements/tools.txt)
	@touch $@
