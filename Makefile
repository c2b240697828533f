# Corral: the words that people and CI use. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
RUNTIME ?= $(CURDIR)/build/bin/corral-runtime
# The order counts: what is cheap and explains most comes first.
TEST_FOLDERS := $(wildcard $(addprefix tests/,repo unit native docs userns root conformance behaviours cve attack peers callers fuzz sweep engine_model soak vm))
LINT_PATHS := src tests native/build.py native/documents.py tools hatch_build.py
TYPED_PATHS := src tests native/build.py native/documents.py tools hatch_build.py
SOURCES := $(shell find src native hatch_build.py pyproject.toml README.md -type f \
	-not -name '*.pyc' -not -path 'native/tests/*' 2>/dev/null)

# In CI nothing that the setup installs may be skipped for want of it.
ifeq ($(CI),true)
export CORRAL_MUST ?= root,userns,newuidmap,net-admin,runc,crun,podman,containerd,dockerd,buildah,busybox,cc,clang,musl-gcc,callers,docker-registry,skopeo,umoci,htpasswd,openssl,groff,zsh,fish,vm
endif

.PHONY: help setup setup-run setup-test native install run lint check test test-root test-userns test-vm coverage behaviours conformance \
	callers sweep soak bench fuzz clean

help: ## list these words
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## Debian packages (only those missing, as root), .venv, development tools
	@tools/setup.sh dev

setup-run:
	@tools/setup.sh run

setup-test: ## what `make test` needs: setup, and the peers that the tests compare with
	@tools/setup.sh test

native: setup-run ## build/bin/corral-runtime and its launcher, running this tree
	@$(PY) native/build.py --out build/bin --launcher $(CURDIR)/.venv/bin/python >/dev/null
	@$(PY) -m compileall -q src

.venv/.installed: $(SOURCES) | setup-run
	@echo "installing corral into .venv"
	@.venv/bin/pip install --quiet --no-build-isolation --no-deps --force-reinstall .
	@touch $@

install: .venv/.installed ## install corral into .venv, as `pip install .` does

run: .venv/.installed ## real containers: by the engine, then by the runtime alone with what it sees of itself
	@$(PY) tools/demo_engine.py --corral $(CURDIR)/.venv/bin/corral
	@$(PY) tools/demo.py --runtime "$${RUNTIME:-$(CURDIR)/.venv/bin/corral-runtime}"

lint:
	@.venv/bin/ruff format --check --quiet $(LINT_PATHS) || { .venv/bin/ruff format --diff $(LINT_PATHS) 2>&1 | grep -E '^(---|Would|[0-9]+ file)'; false; }
	@.venv/bin/ruff check --quiet $(LINT_PATHS)
	@.venv/bin/mypy --no-error-summary $(TYPED_PATHS)

check: setup lint ## format, lint, types, unit and repository tests, a minute or two
	@$(PYTEST) -q $(wildcard tests/repo tests/unit)

test: setup-test native lint ## everything: as check, and all tests that this host can run
	@$(PYTEST) $(TEST_FOLDERS)

test-root: setup-test native ## the tests that need root
	@$(PYTEST) $(wildcard tests/root tests/cve)

test-userns: setup-test native ## the tests that need user namespaces only
	@$(PYTEST) $(wildcard tests/userns)

test-vm: setup-test native ## the tests in virtual machines: pure cgroup v2, v1, systemd, kernels 5.10 to 6.12 (ALL=1: every cell)
	@$(PYTEST) tests/vm

behaviours: setup-test native ## docs/behaviours.md, from the statements' tests on this host and in virtual machines (ALL=1: every cell)
	@mkdir -p build/results
	@$(PYTEST) tests/unit/cgroup tests/unit/engine tests/root/cgroup tests/root/engine/test_statements.py tests/userns tests/behaviours --junitxml=build/results/host.xml
	@$(PYTEST) tests/vm
	@$(PY) tools/behaviours.py

coverage: setup-test native ## lines and branches that unit tests and virtual machines reach
	@rm -rf build/coverage
	@mkdir -p build/coverage
	@COVERAGE_FILE=build/coverage/host $(PY) -m coverage run -m pytest tests/unit
	@CORRAL_COVERAGE=1 $(PYTEST) tests/vm
	@COVERAGE_FILE=build/coverage/all $(PY) -m coverage combine -q --keep \
		$$(find build/coverage build/results/cells -type f \( -name 'host.*' -o -name 'coverage.*' \))
	@COVERAGE_FILE=build/coverage/all $(PY) -m coverage report --skip-covered --show-missing

conformance: setup-test native ## the black-box suite; RUNTIME=/usr/sbin/runc for another runtime
	@$(PYTEST) tests/conformance --runtime "$(RUNTIME)"

callers: setup-test native ## podman, containerd, dockerd and buildah driving RUNTIME
	@$(PYTEST) tests/callers --runtime "$(RUNTIME)"

sweep: setup-test native ## SIGKILL at every step of every operation (make test runs a subset)
	@CORRAL_SWEEP=all $(PYTEST) tests/sweep tests/engine_model tests/unit/image/test_concurrency.py

soak: setup-test native ## churn with random kills for SOAK_SECONDS (1800): nothing left, nothing grown
	@CORRAL_SOAK_SECONDS=$${SOAK_SECONDS:-1800} $(PYTEST) -s tests/soak

bench: setup-test install ## what containers cost beside runc, crun, containerd, podman, docker and the kernel (PEERS=1: newer ones too)
	@$(PY) tools/bench.py
	@$(PY) tools/bench_cgroups.py
	@$(PY) tools/bench_engine.py

fuzz: setup-test native ## the fuzzers for FUZZ_SECONDS each (default 300)
	@CORRAL_FUZZ_SECONDS=$${FUZZ_SECONDS:-300} $(PYTEST) $(wildcard tests/fuzz tests/native)

clean: ## remove build/ (not .venv)
	@rm -rf build
