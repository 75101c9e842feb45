# The words of the project. Each sets up what it needs; a fresh machine needs python3 >= 3.11 and a package index.

PY := .venv/bin/python
ROUNDS ?= 300
# More for pytest, e.g. `make test ARGS="-k webhook -x"`.
ARGS ?=

# Every tests/campaigns/NAME.py is a campaign and a word of its own: `make NAME`. Helpers there start with an underscore.
CAMPAIGNS := $(filter-out conftest test_% _%,$(notdir $(basename $(wildcard tests/campaigns/*.py))))
OTHER_CAMPAIGNS := $(filter-out crash,$(CAMPAIGNS))

.DEFAULT_GOAL := help
.PHONY: help setup run demo test check fmt bench campaigns crash system-packages azurite apache-kafka $(OTHER_CAMPAIGNS)

help: ## the words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: .venv/.setup ## .venv with the locked dependencies
	@:

.venv/.setup: pyproject.toml uv.lock scripts/setup
	@./scripts/setup
	@touch $@

run: setup ## the service with config/quickstart.yaml: SQLite, no account, no server
	@echo 'console and API: http://127.0.0.1:8080   (stop with Ctrl-C)'
	@echo 'try, in another terminal:'
	@echo '  cp examples/01-orders/data/orders-2026-01.csv inbox/'
	@echo '  .venv/bin/tidegate runs'
	@exec $(PY) -m tidegate serve config/quickstart.yaml

demo: setup ## the service, driven by a script that shows runs and their lineage
	@exec $(PY) -m examples.demo

test: setup system-packages azurite apache-kafka ## the tests, against real servers that they start themselves
	@$(PY) -m pytest -q -n 2 --dist loadfile $(ARGS)

check: setup ## format, lint, types, import law
	@.venv/bin/ruff format --check --quiet . || { echo 'check: some files are not formatted; run "make fmt".' >&2; exit 1; }
	@.venv/bin/ruff check --quiet --output-format concise .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

fmt: setup ## format, and repair what the linter can repair
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

bench: setup system-packages azurite apache-kafka ## all benchmarks
	@$(PY) -m benchmarks all

campaigns: crash $(OTHER_CAMPAIGNS) ## all the long proofs

crash: setup system-packages ## kill -9 at every step, ROUNDS times
	@$(PY) -m tests.campaigns.crash --rounds $(ROUNDS)

$(OTHER_CAMPAIGNS): setup system-packages
	@$(PY) -m tests.campaigns.$@

system-packages:
	@./scripts/system-packages

azurite: system-packages
	@./scripts/azurite

kafka: apache-kafka

apache-kafka: system-packages
	@./scripts/kafka
