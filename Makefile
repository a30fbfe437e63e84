# `make` lists what can be asked for. Whatever needs .venv makes it first if it is missing or out of date.

VENV := .venv
PIP := $(VENV)/bin/python -m pip
PACKAGES := $(VENV)/.packages-installed
READY := $(VENV)/.ready
PYTEST := $(VENV)/bin/python -m pytest
WORKERS := -n auto --maxprocesses=4 --dist loadfile
FAST := not thorough and not slow and not wheel

.PHONY: help demo test thorough servers slow wheel lint types notebooks docs pages setup lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Calibrate models/room and leave posterior, predictions, report and provenance under results/
	@$(VENV)/bin/bayestwin calibrate models/room

# COVERAGE=1, as in .ci/run, also counts the lines that they run; not those run in processes that tests start.
test: $(READY) ## Run the fast tests
	@$(PYTEST) -q $(WORKERS) -m "$(FAST)" $(if $(COVERAGE),--cov --cov-report=)
	@$(if $(COVERAGE),echo "Coverage of bayestwin/: $$($(VENV)/bin/coverage report --format=total) % of lines; by file: $(VENV)/bin/coverage report")

thorough: $(READY) ## Run these and those that take longer, which is about an hour on two cores
	@$(PYTEST) -q $(WORKERS) -m "not slow and not wheel"

# What speaks to them is installed beside .venv, since pandas makes other columns of text where pyarrow is there.
SERVERS := tests/telemetry/test_selecting.py tests/project/test_selected_rows.py tests/project/test_watch_streams.py \
	    tests/registry/test_shared_log.py

servers: $(READY) ## Run the tests that ask real servers, PostgreSQL and MQTT; skipped where these are not installed
	@rm -rf build/servers
	@$(PIP) install -qq --disable-pip-version-check --require-hashes --only-binary :all: --no-deps --target build/servers \
	    -r tests/servers.lock
	@PYTHONPATH=$(CURDIR)/build/servers $(PYTEST) -q -m "not slow" $(SERVERS)

slow: $(READY) ## Run the slow statistical tests
	@$(PYTEST) -q -m slow

wheel: $(READY) ## Build the wheel, and use it in an empty folder without the clone
	@$(PYTEST) -q -m wheel tests/test_wheel.py

lint: $(READY) ## Check style and formatting (`.venv/bin/ruff check --fix . && .venv/bin/ruff format .` mends most)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(READY) ## Check the package's types
	@$(VENV)/bin/basedpyright

notebooks: $(READY) ## Execute the notebooks in a temporary copy
	@sh tools/run-notebooks

# The variable silences an advertisement for the generator's successor.
docs: $(READY) ## Build the documentation in build/site, where any warning is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict
	@$(VENV)/bin/python tools/make_pages.py check-site build/site

pages: $(READY) ## Make docs/cli.md and docs/examples.md anew, after a change of a command, a card or the README's table
	@$(VENV)/bin/python tools/make_pages.py

setup: $(READY) ## Make .venv and install everything, nothing more

# The stamps are written last, so an interrupted set-up starts over. A new lock means a new environment: what an older
# lock installed must not hide that something is missing from this one.
# Wheels only: nothing is compiled here, and no package's own set-up code runs.
# --compile: without byte code the imports take 11 s instead of 4, in every process. pip writes it unless it was
# configured not to; where PYTHONDONTWRITEBYTECODE is set, nothing would write it later.
$(PACKAGES): requirements.lock
	@python=$$(sh tools/find-python) && \
	echo "Setting up $(VENV) with $$("$$python" --version): 1 to 2 minutes, and the first time a download of about 370 MB." && \
	rm -rf $(VENV) && \
	"$$python" -m venv $(VENV)
	@$(PIP) install -qq --disable-pip-version-check --compile --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

$(READY): $(PACKAGES) pyproject.toml
	@$(PIP) install -qq --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@missing=$$($(PIP) check --disable-pip-version-check) || \
	    { echo "error: requirements.lock is behind pyproject.toml; run make lock"; echo "$$missing"; exit 1; }
	@touch $@
	@echo "$(VENV) is ready."

# Keeps the versions that still fit; `make lock LOCK_FLAGS=--upgrade` takes the newest of all. The container's lock has the
# same versions of what serving needs, and no more; that of the tests' servers has what speaks to them alone.
COMPILE = "$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.12 --generate-hashes \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: ## Make every lock anew from pyproject.toml
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && python=$$(sh tools/find-python) && \
	"$$python" -m venv "$$scratch" && "$$scratch/bin/python" -m pip install -qq "uv>=0.9" && \
	$(COMPILE) pyproject.toml --extra test --extra dev --extra docs --output-file requirements.lock $(LOCK_FLAGS) && \
	$(COMPILE) pyproject.toml container/requirements.in --extra serve --constraints requirements.lock \
	    --output-file container/requirements.lock $(LOCK_FLAGS) && \
	$(COMPILE) tests/servers.in --constraints requirements.lock --output-file tests/servers.lock $(LOCK_FLAGS)

clean: ## Remove .venv, caches and build outputs (results/ stays)
	@rm -rf $(VENV) build dist .coverage .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
