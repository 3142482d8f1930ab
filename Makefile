# Two commands: make demo, make test. The environment in .venv makes itself.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What judges FOCUS exports needs old versions of what Berth uses, too: an environment of its own.
FOCUS_VENV := .venv-focus
FOCUS_STAMP := $(FOCUS_VENV)/.installed
FOCUS := tests/billing/focus/requirements

.PHONY: demo test lint audit bench lock clean help

help: ## List these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(STAMP): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; on Debian 12: apt install python3.11 python3.11-venv libpython3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "The venv module is incomplete; on Debian 12: apt install python3.11-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --require-hashes -r requirements.lock
	touch $(STAMP)

$(FOCUS_STAMP): $(FOCUS).lock | $(STAMP)
	test -x $(FOCUS_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(FOCUS_VENV)
	VIRTUAL_ENV=$(FOCUS_VENV) $(BIN)/uv pip install -q --require-hashes -r $(FOCUS).lock
	touch $(FOCUS_STAMP)

demo: $(STAMP) ## Start Berth on this machine and carry out the main job (ARGS="--exit --json")
	@$(BIN)/python -m portal.demo $(ARGS)

test: lint $(FOCUS_STAMP) ## Lint, types, import rules, then every test
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --reruns 1 --rerun-show-tracebacks $(ARGS)

lint: $(STAMP) ## Style, types, import rules, known weaknesses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml --severity-level high -r portal tenants billing clusters gateway embedded berthctl

audit: $(STAMP) ## Ask the package index whether advisories name what requirements.lock pins
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

bench: $(STAMP) ## Measure (BENCH=name for one of bench/)
	@$(BIN)/python -m bench $(BENCH)

lock: $(STAMP) ## Compile requirements.lock anew from pyproject.toml, the gateway image's from it, the FOCUS validator's
	$(BIN)/uv pip compile pyproject.toml --extra embedded --extra dev --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	$(BIN)/uv pip compile deploy/gateway/requirements.in -c requirements.lock --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o deploy/gateway/requirements.lock
	$(BIN)/uv pip compile $(FOCUS).in --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o $(FOCUS).lock

clean: ## Remove the environment and all data of the embedded services
	rm -rf $(VENV) $(FOCUS_VENV) .berth .berth-bench .berth-test bench/results staticfiles
