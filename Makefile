# The verbs, all of which set up what they need: run, test, check, bench, bench-full, demo, chaos, fuzz, mutants, docs;
# lock, audit and wheel-check see to what is installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .venv-tools
PLOTTING := $(VENV)/.plotting

.PHONY: run test check bench bench-full demo chaos fuzz mutants lock audit wheel-check docs format clean

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

# Twenty thousand requests made of the service's own document: make fuzz REQUESTS=5000
REQUESTS ?= 20000
fuzz: $(READY)           ## ask the service for whatever its document allows and forbids, then verify the ledger
	$(BIN)/python -m tests.fuzz --requests $(REQUESTS) $(if $(SEED),--seed $(SEED))

mutants: $(READY)        ## change the pure rules one small piece at a time: which change does no test notice?
	$(BIN)/python -m tests.mutants

# What is pinned already stays, unless all is to be renewed: make lock UPGRADE=--upgrade
UPGRADE ?=
lock: $(TOOLS)/.ready    ## pin what the development environment is made of in requirements-dev.lock
	$(TOOLS)/bin/uv pip compile setup.cfg --extra dev --universal --python-version 3.11 --generate-hashes $(UPGRADE) \
	    --quiet --no-header --no-annotate --output-file requirements-dev.lock

audit: $(TOOLS)/.ready   ## look up known vulnerabilities of all that is pinned (asks the package index)
	@$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements-dev.lock || { echo \
	    "make audit: either something above is vulnerable, or the index does not tell (a mirror has no advisories):" \
	    "then nothing was audited" >&2; exit 1; }

wheel-check: $(TOOLS)/.ready  ## build the wheel, install it with PostgreSQL where nothing else is, and serve from it
	rm -rf build dist
	$(TOOLS)/bin/python -m build --wheel --outdir dist .
	$(TOOLS)/bin/python tests/packaging/serve_wheel.py dist/stockledger-*.whl

docs: $(READY)           ## make anew what of docs/ is made: the table of settings
	$(BIN)/python -m api.settings

format: $(READY)         ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:                   ## forget the virtual environment and caches
	rm -rf $(VENV) $(TOOLS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The mark of a whole environment says where and with what it was made. One that was moved, or whose Python is gone or
# is another now, is made anew; `make` looks at that without starting anything.
made_with = [$(if $(wildcard $(1)/.ready),$(file < $(1)/.ready))]
wanted = [$(CURDIR) $(PYTHON) $(realpath $(1)/bin/python)]
fresh = $(if $(and $(findstring $(call made_with,$(1)),$(call wanted,$(1))),$(findstring $(call wanted,$(1)),$(call made_with,$(1)))),,FORCE)

$(READY): setup.cfg pyproject.toml requirements-dev.lock $(call fresh,$(VENV))
	@sh ops/make-venv.sh $(VENV) "$(PYTHON)" "--require-hashes --requirement requirements-dev.lock" "--editable '.[dev]'"

$(PLOTTING): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

$(TOOLS)/.ready: requirements-tools.txt $(call fresh,$(TOOLS))
	@sh ops/make-venv.sh $(TOOLS) "$(PYTHON)" "--requirement requirements-tools.txt"

.PHONY: FORCE
FORCE:
