# make help lists the targets; every one sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Root captures and makes namespaces. It writes no bytecode, which its owner could not remove.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo) env PYTHONDONTWRITEBYTECODE=1
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What is compiled: a change rebuilds it. The list of all modules: a new one is linked in.
COMPILED := $(shell find core backends protocols sinks enrichers -name '*.pyx' -o -name '*.px[di]') \
  $(shell find core backends protocols sinks enrichers -name '*.pxd' | sed 's/pxd$$/py/' | xargs -r ls 2>/dev/null)
MODULES := $(shell find core backends protocols sinks enrichers -name '*.py' | sort | cksum | cut -d' ' -f1)

# What an extra of pyproject.toml needs.
extra = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"])')

.PHONY: help run test test-kernel test-arm64 test-slow test-load test-loki loki victorialogs soak fuzz lint bench bench-gate docs dist clean dev system tools bpf

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: dev ## watch this machine's traffic, live (ARGS="--iface lo --sink jsonl:-")
	@echo "kshark run $(ARGS)   (Ctrl-C ends it)"
	@$(SUDO) $(BIN)/kshark run $(ARGS)

test: dev tools bpf ## everything that takes under ten minutes, live captures in own namespaces included
	@echo "running the tests"
	@$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not slow and not kernel" $(ARGS)

test-kernel: dev tools bpf ## eBPF hooks in a guest with Debian's kernel, under qemu: two minutes
	@missing=""; \
	command -v qemu-system-x86_64 >/dev/null || missing="qemu-system-x86"; \
	command -v busybox >/dev/null || missing="$$missing busybox-static"; \
	sh tests/apt.sh useful "$$missing"
	@$(BIN)/python -m pytest -q -m kernel tests/kernel --ignore tests/kernel/test_arm64.py $(ARGS)

test-arm64: dev bpf ## the same on arm64, TLS in clear as well, in an emulated machine: three minutes (needs Go)
	@missing=""; \
	command -v qemu-system-aarch64 >/dev/null || missing="qemu-system-arm"; \
	sh tests/apt.sh useful "$$missing"
	@$(BIN)/python -m pytest -q -m kernel tests/kernel/test_arm64.py $(ARGS)

test-slow: dev tools bpf ## the tests that take minutes: long fuzzing, soak
	@$(BIN)/python -m pytest -q -m "slow and not load" $(ARGS)

test-load: dev tools bpf ## storms, crowds and slow readers on the backends in the kernel (half an hour, alone on the machine)
	@$(BIN)/python -m pytest -q -m load tests/backends $(ARGS)

loki: ## a real Loki to test with, built from its sources into ~/.cache/kshark (ten minutes, once; needs Go)
	@tests/loki.sh

test-loki: dev tools loki ## the sink loki, its dashboards and alert rules, against the real Loki
	@$(BIN)/python -m pytest -q tests/sinks/test_loki*.py tests/deploy $(ARGS)

victorialogs: ## a log server that takes Loki's push API, built from its sources into ~/.cache/kshark (two minutes, once; needs Go)
	@tests/victorialogs.sh

soak: dev tools bpf victorialogs ## ten minutes of live traffic into a real log server, which is away for one of them (root)
	@$(SUDO) env KSHARK_SOAK=600 $(BIN)/python -m pytest -q -s -m slow tests/sinks/test_soak.py $(ARGS)

fuzz: dev ## 24 MB of damage through every dissector, two minutes for each at most
	@nice $(BIN)/python -m pytest -q -s -m slow tests/test_fuzz_all.py $(ARGS)

lint: dev ## ruff, mypy --strict, codespell
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy build/__editable__*/kshark tests benchmarks deploy || { echo "mypy found something"; exit 1; }
	@$(BIN)/codespell $$(git ls-files 2>/dev/null | grep -v LICENSE)

bench: dev tools ## cost per packet and transaction against tshark, tcpflow and ndpiReader; live throughput
	@$(BIN)/python benchmarks/offline.py $(ARGS)
	@$(BIN)/python benchmarks/sink_costs.py
	@$(SUDO) $(BIN)/python benchmarks/live.py

bench-gate: dev ## fails when a transaction takes 10 % more instructions than were accepted
	@sh tests/apt.sh needed "$$(command -v valgrind >/dev/null || echo valgrind)"
	@$(BIN)/python benchmarks/gate.py

docs: dev ## the site, in site/
	@$(BIN)/python -c 'import material, mkdocs' 2>/dev/null || $(BIN)/python -m pip install -q $(call extra,docs)
	@$(BIN)/python docs/generate.py && NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q && echo "site/index.html"

dist: dev ## wheel and sdist in dist/
	@$(BIN)/python -m pip install -q build && $(BIN)/python -m build -o dist . && ls dist

dev: $(VENV)/.ready-$(MODULES) ## the virtual environment with kshark in it, compiled

$(VENV)/.ready-$(MODULES): pyproject.toml setup.py $(COMPILED)
	@$(MAKE) -s system
	@echo "setting up $(VENV) (three to six minutes on two cores: it compiles the core)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv --copies $(VENV)
	@rm -rf build/__editable__* && mkdir -p build
	@{ $(BIN)/python -m pip install -q --upgrade pip \
	  && $(BIN)/python -m pip install -q -e '.[dev]' --config-settings editable_mode=strict; } >build/setup.log 2>&1 \
	  || { tail -30 build/setup.log; echo "setting up failed; all of it is in build/setup.log"; exit 1; }
	@$(BIN)/python -m compileall -q build/__editable__*/kshark
	@$(BIN)/python -c 'from kshark.wire import COMPILED; print("compiled core:", "yes" if COMPILED else "no, plain Python (install gcc and python3-dev, then make clean run)")'
	@rm -f $(VENV)/.ready-* && touch $@

bpf: ## the programs for the kernel, in bpf/*.bpf.o (clang; the packages have them built)
	@missing=""; \
	need() { command -v $$1 >/dev/null || [ -x /usr/sbin/$$1 ] || missing="$$missing $$2"; }; \
	need clang clang; need llvm-strip llvm; need bpftool bpftool; \
	[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$$missing libbpf-dev"; \
	sh tests/apt.sh useful "$$missing"
	@sh bpf/build.sh && ls bpf/*.bpf.o

system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "$(PYTHON) is not Python 3.11 or newer; say which is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@missing=""; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"; \
	sh tests/apt.sh needed "$$missing"; \
	missing=""; \
	command -v gcc >/dev/null || missing="gcc libc6-dev"; \
	[ -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing="$$missing python3-dev"; \
	sh tests/apt.sh useful "$$missing"

tools: ## what the tests compare with: tshark, nginx, redis-server, ... (Debian packages)
	@missing=""; \
	need() { command -v $$1 >/dev/null || [ -x /usr/sbin/$$1 ] || missing="$$missing $$2"; }; \
	need tshark tshark; need tcpdump tcpdump; need nginx nginx-light; need redis-server redis-server; need redis-cli redis-tools; need psql postgresql; need dig bind9-dnsutils; need dnsmasq dnsmasq-base; \
	need curl curl; need wrk wrk; need ip iproute2; need zstd zstd; need tcpflow tcpflow; need ndpiReader libndpi-bin; need setcap libcap2-bin; need memcached memcached; need nghttpd nghttp2-server; need h2load nghttp2-client; need nghttpx nghttp2-proxy; need haproxy haproxy; need mosquitto mosquitto; need mosquitto_pub mosquitto-clients; need prometheus prometheus; need chromium chromium; need openssl openssl; need gnutls-cli gnutls-bin; \
	need wget wget; need node nodejs; \
	[ -d /usr/lib/python3/dist-packages/bcc ] || missing="$$missing python3-bpfcc"; [ -f /usr/include/liburing.h ] || missing="$$missing liburing-dev"; \
	sh tests/apt.sh useful "$$missing"
	@[ -x build/go/greeter_server ] || { echo "building a gRPC server in Go"; mkdir -p build/go; cd tests/protocols/grpc_calls/go && PATH="$$PATH:/usr/local/go/bin" go build -o ../../../../build/go/ \
	  google.golang.org/grpc/examples/helloworld/greeter_server google.golang.org/grpc/examples/helloworld/greeter_client; } || { echo "no greeter in Go: its test cannot run"; [ "$(CI)" != true ]; }
	@[ -d build/logql/node_modules/@grafana/lezer-logql ] || { echo "fetching a grammar of LogQL"; mkdir -p build/logql; npm install --silent --fetch-retries=1 --no-audit --no-fund --prefix build/logql \
	  @grafana/lezer-logql@0.4.2 @lezer/common@1 @lezer/lr@1; } || { echo "no grammar of LogQL (needs npm): its test cannot run"; [ "$(CI)" != true ]; }

clean: ## remove what was built
	@rm -rf build dist site bpf/*.bpf.o $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
	@find core backends protocols sinks enrichers \( -name '*.so' -o -name __pycache__ \) -exec rm -rf {} +
