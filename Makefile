# Seven verbs, all of which set up what they need: run, test, check, bench, bench-full, demo, chaos.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PLOTTING := $(VENV)/.plotting

.PHONY: run test check bench bench-full demo chaos format clean

run: $(READY)            ## start the service (embedded PostgreSQL unless DATABASE_URL is set)
	@exec $(BIN)/stockledger serve

test: check              ## everything CI runs: format, lint, types, tests
	$(BIN)/python -m pytest

check: $(READY)          ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(PLOTTING)       ## measure every command, and write its part of bench/RESULTS.md (ten minutes)
	$(BIN)/python -m bench

bench-full: $(PLOTTING)  ## the same, and against connections and log size, overload, memory (two hours; 30 GB of disk)
	$(BIN)/python -m bench --full

demo: $(READY)           ## drive a running service with a real retail day and reconcile
	$(BIN)/python examples/retail_day.py

# Ten minutes of random faults under load, then an audit of the log: make chaos SEED=7 SECONDS=60
SEED ?=
SECONDS ?= 600
chaos: $(READY)          ## break everything there is for SECONDS, and see that no promise breaks
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

format: $(READY)         ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:                   ## forget the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("stockledger needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(PLOTTING): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
