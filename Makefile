# Works on a fresh machine: every target begins with `make setup`, which is quick once it has been done.

PYTHON ?= python3
PY := .venv/bin/python
# Text goes out as it comes, also into a pipe.
export PYTHONUNBUFFERED := 1

# In a kernel of its own, as an ordinary process: no privileges, nothing of this host is touched.
SANDBOX := $(PY) -m reconciler.sandbox
DEMO_SECONDS := 600
RELEASE ?= trixie
SEEDS ?=
MINUTES ?=
SAMPLE ?= 60
SEED ?= 1
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-kernel test-debian lint format dashboards man docs bench soak mutants shell clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## what the others begin with: .venv, and system packages that are missing
	@$(PYTHON) -m tools.setup

demo: setup ## two minutes: a throw-away kernel, the daemon, and everything that breaks and is healed
	@$(SANDBOX) --timeout $(DEMO_SECONDS) -- $(PY) -m demo

test: setup ## all tests, those on a real kernel in the sandbox (KERNEL=host: on this host's kernel, as root)
	@$(PY) -m tools.run_tests all $(ARGS)

test-unit: setup ## only what needs no kernel; ARGS="-k suspended" goes to pytest
	@$(PY) -m tools.run_tests unit $(ARGS)

test-kernel: setup ## only what needs a real kernel (KERNEL=vm: conformance, stories and chaos in a full machine, as root)
	@$(PY) -m tools.run_tests kernel $(ARGS)

test-debian: ## all tests in a fresh Debian of its own, as root, in half an hour: RELEASE=trixie (or bookworm)
	@$(PYTHON) -m tools.fresh_debian $(RELEASE) test "ARGS=$$ARGS"

lint: setup ## ruff, mypy, and the layers that may import each other
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

format: setup ## let ruff write the files as it wants them
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

dashboards: setup ## write grafana/dashboards anew, as tools/dashboard has them
	@$(PY) -m tools.dashboard

man: setup ## write the manual page and the shells' completions under share/ anew, from the commands
	@$(PY) -m tools.manual

docs: setup ## the pages of docs/ as a site in build/site; a link that leads nowhere fails it
	@$(PY) -m mkdocs build

bench: setup ## measure it, in the sandbox
	@$(PY) -m benchmarks.run $(ARGS)

soak: setup ## what takes long: SEEDS=20000 simulated lives, MINUTES=30 of chaos on a real kernel; all, if neither is given
	@SEEDS=$(SEEDS) MINUTES=$(MINUTES) $(PY) -m tools.soak $(ARGS)

mutants: setup ## bugs made of the product's own lines, SAMPLE=60 of them by SEED=1: which of them no test finds
	@$(PY) -m tools.mutants --sample $(SAMPLE) --seed $(SEED) $(ARGS)

shell: setup ## a root shell in the sandbox
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(SANDBOX)

clean: ## remove .venv and everything that was generated
	@$(PYTHON) -m tools.clean
