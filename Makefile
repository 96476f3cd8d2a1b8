# Every target makes what it needs; only Python 3.11 or newer and make have to be there.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BENCH_VENV ?= .venv-bench
DOCS_VENV ?= .venv-docs
CITATION_VENV ?= .venv-citation
CRATE_VENV ?= .venv-crate
BENCH_ARGS ?=
BIN := $(VENV)/bin
DEMO_DATA ?= data/demo
PYTEST_ARGS ?=
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
MINUTES ?= 1
SEED ?=
FAULT ?=

NEEDS_COMPOSE = docker compose version >/dev/null 2>&1 || { \
	echo "error: this target needs Docker with Compose 2 (https://docs.docker.com/compose/install/)." >&2; \
	echo "Without it use the embedded server ('make demo'), or set DATABASE_URL to a server of yours." >&2; \
	exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-containers torture fleet bench bench-quick crate docs docs-serve check format snapshot pictures up down build clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- the virtual environments: one to run, one to develop; a stamp says that it is complete

$(VENV)/.demo: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,chem,cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(BENCH_VENV)/.bench: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@echo "installing into $(BENCH_VENV) ..."
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

$(DOCS_VENV)/.docs: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@echo "installing into $(DOCS_VENV) ..."
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# cffconvert needs an older jsonschema than this package, so it has an environment of its own
$(CITATION_VENV)/.citation:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(CITATION_VENV)/bin/python || $(PYTHON) -m venv $(CITATION_VENV)
	@echo "installing into $(CITATION_VENV) ..."
	@$(CITATION_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'cffconvert>=2'
	@touch $@

# roc-validator needs an older rich than this package; rocrate 0.13 has the context of RO-Crate 1.1
$(CRATE_VENV)/.crate:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(CRATE_VENV)/bin/python || $(PYTHON) -m venv $(CRATE_VENV)
	@echo "installing into $(CRATE_VENV) ..."
	@$(CRATE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'roc-validator>=0.13,<0.14' 'rocrate==0.13.0'
	@touch $@

# ---- what a person types

demo: $(VENV)/.demo ## run the example programs on an embedded PostgreSQL, with real molecules
	@echo; echo "== examples/f5_demo.py: one flow of four typed steps, in memory and on PostgreSQL"
	@echo "   (f5 marks the files that show the persistence of a flow by itself; it is not a version)"
	@$(BIN)/python examples/f5_demo.py
	@echo; echo "== examples/f5_lowlevel.py: the same log without the engine, event by event"
	@$(BIN)/python examples/f5_lowlevel.py
	@echo; echo "== examples/screen_nci.py --limit 200: real molecules, one flow with a child for each"
	@$(BIN)/python examples/screen_nci.py --limit 200 --data $(DEMO_DATA)
	@echo
	@echo "The data is in $(DEMO_DATA), a PostgreSQL of its own. Try next:"
	@echo "  make demo                        # nothing is computed twice"
	@echo "  $(BIN)/python examples/screen_nci.py --limit 300 --workers 3 --kill-every 5   # with killed workers"
	@echo "  $(BIN)/python examples/orchestrator.py             # inside a service that is stopped"
	@echo "  $(BIN)/python examples/workers.py                  # three workers, of which one is killed"
	@echo "  $(BIN)/chem-persistence flows --data $(DEMO_DATA)   # and show, stats, tail, doctor, ..."

test: $(VENV)/.dev ## run the tests (on a container if an engine has one, else embedded)
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-long: $(VENV)/.dev ## run the long fault and property tests, and the how-to pages
	@$(PYTEST) -m slow $(PYTEST_ARGS)

test-containers: $(VENV)/.dev ## run the tests on a PostgreSQL container (CHEM_TEST_IMAGE, postgres:18)
	@CHEM_TEST_DATABASE=container $(PYTEST) -m "not slow" $(PYTEST_ARGS)

torture: $(VENV)/.dev ## inject faults for MINUTES (1) under load and check the log; SEED=... repeats a schedule
	@$(BIN)/python -m tests.torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(FAULT),--only "$(FAULT)")

fleet: $(VENV)/.dev ## kill and stop workers, and restart the server, for MINUTES (1), and check each flow
	@$(BIN)/python -m tests.torture.fleet --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: $(BENCH_VENV)/.bench ## measure against pgbench, plain INSERT, COPY and peers; draw the plots (30 minutes, 8 GB of disk)
	@$(BENCH_VENV)/bin/python -m benchmarks $(BENCH_ARGS)
	@$(BENCH_VENV)/bin/python -m benchmarks.plots

bench-quick: $(BENCH_VENV)/.bench ## the same in 4 minutes, roughly, and without plots
	@$(BENCH_VENV)/bin/python -m benchmarks --quick $(BENCH_ARGS)

crate: $(VENV)/.dev $(CRATE_VENV)/.crate ## ask the public validator of RO-Crates what it says of bundles
	@CHEM_TEST_CRATE=$(CURDIR)/$(CRATE_VENV)/bin/python $(BIN)/python -m pytest -q -m crate tests/acceptance/bundles/test_ro_crate_validator.py

docs: $(DOCS_VENV)/.docs $(CITATION_VENV)/.citation ## build the documentation site into build/site; a broken link fails
	@$(CITATION_VENV)/bin/cffconvert --validate
	@mkdir -p build
	@$(DOCS_VENV)/bin/zensical build --clean --strict >build/docs.log 2>&1 || { cat build/docs.log; exit 1; }
	@! grep '^griffe: ' build/docs.log # a docstring that mkdocstrings cannot read
	@$(DOCS_VENV)/bin/python -m tests.support.pages.check_site build/site
	@echo "build/site/index.html"

docs-serve: $(DOCS_VENV)/.docs ## show the documentation site while you write it, on http://127.0.0.1:8000
	@$(DOCS_VENV)/bin/zensical serve

check: $(VENV)/.dev ## lint, format check, types, import arrows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

snapshot: $(VENV)/.dev ## write documentation/snapshots/schema_f5.sql from a live database
	@$(BIN)/python -m tests.support.servers.write_snapshot

pictures: $(VENV)/.dev ## take documentation/pictures/flow_*.png with Chromium
	@$(BIN)/python -m tests.support.pages.write_pictures

up: ## start PostgreSQL 18 with docker compose, and wait until it is healthy
	@$(NEEDS_COMPOSE)
	@docker compose up --detach --wait
	@address=$$(docker compose port postgres 5432) && \
		echo "export DATABASE_URL=postgresql://chem:\$${CHEM_POSTGRES_PASSWORD:-chem_dev}@$$address/chem"

down: ## stop it; its data stays in the volume
	@$(NEEDS_COMPOSE)
	@docker compose down

build: $(VENV)/.dev ## build the sdist and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .

clean: ## remove what the targets made, but not data/
	@rm -rf $(VENV) $(BENCH_VENV) $(DOCS_VENV) $(CITATION_VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
