# make help lists the targets; every one sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
ARGS ?=
# What is compiled: a change rebuilds it. The list of all modules: a new one is linked in.
COMPILED := $(shell find core backends protocols sinks -name '*.pyx' -o -name '*.pxd') \
  $(shell find core backends protocols sinks -name '*.pxd' | sed 's/pxd$$/py/' | xargs -r ls 2>/dev/null)
MODULES := $(shell find core backends protocols sinks -name '*.py' | sort | cksum | cut -d' ' -f1)

.PHONY: help run test test-live test-slow lint bench bench-gate fuzz docs dist clean dev system tools

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: dev ## watch this machine's traffic, live (ARGS="--iface lo --sink jsonl:-")
	@echo "kshark run $(ARGS)   (Ctrl-C ends it)"
	@$(SUDO) $(BIN)/kshark run $(ARGS)

test: dev tools ## everything that takes under ten minutes, live captures in own namespaces included
	@echo "running the tests"
	@$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

test-slow: dev tools ## the tests that take minutes: long fuzzing, soak
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

lint: dev ## ruff, mypy --strict, codespell
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy build/__editable__*/kshark tests benchmarks || { echo "mypy found something"; exit 1; }
	@$(BIN)/codespell core backends protocols sinks docs tests benchmarks README.md CHANGELOG.md CONTRIBUTING.md

bench: dev tools ## cost per packet and transaction against tshark, tcpflow and ndpiReader; live throughput
	@$(BIN)/python benchmarks/offline.py $(ARGS)
	@$(SUDO) $(BIN)/python benchmarks/live.py

bench-gate: dev tools ## fails when a ratio falls below 80 % of the accepted one
	@$(BIN)/python benchmarks/gate.py

docs: dev ## the site, in site/
	@$(BIN)/python -m pip install -q -e '.[docs]' --config-settings editable_mode=strict
	@$(BIN)/python docs/generate.py && $(BIN)/mkdocs build --strict -q && echo "site/index.html"

dist: dev ## wheel and sdist in dist/
	@$(BIN)/python -m pip install -q build && $(BIN)/python -m build -o dist . && ls dist

dev: $(VENV)/.ready-$(MODULES) ## the virtual environment with kshark in it, compiled

$(VENV)/.ready-$(MODULES): pyproject.toml setup.py $(COMPILED)
	@$(MAKE) -s system
	@echo "setting up $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip
	@rm -rf build/__editable__*
	@$(BIN)/python -m pip install -q -e '.[dev]' --config-settings editable_mode=strict
	@$(BIN)/python -c 'from kshark.wire import COMPILED; print("compiled core:", "yes" if COMPILED else "no (install gcc and python3-dev, then make clean run)")'
	@rm -f $(VENV)/.ready-* && touch $@

system:
	@missing=""; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"; \
	[ -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing="$$missing python3-dev"; \
	sh tests/apt.sh "$$missing"

tools: ## what the tests compare with: tshark, nginx, redis-server, ... (Debian packages)
	@missing=""; \
	need() { command -v $$1 >/dev/null || [ -x /usr/sbin/$$1 ] || missing="$$missing $$2"; }; \
	need tshark tshark; need tcpdump tcpdump; need nginx nginx-light; need redis-server redis-server; need redis-cli redis-tools; \
	need curl curl; need wrk wrk; need ip iproute2; need zstd zstd; need tcpflow tcpflow; need ndpiReader libndpi-bin; need setcap libcap2-bin; \
	sh tests/apt.sh "$$missing"

clean: ## remove what was built
	@rm -rf build dist site $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
	@find core backends protocols sinks \( -name '*.so' -o -name __pycache__ \) -exec rm -rf {} +
