# Everything a person or CI runs. Needs make and Python 3.11 or newer; what else it needs it
# installs into a virtual environment beside this file.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all sanitize conformance fuzz soak build format bench bench-curves clean

VENV ?= .venv
VERSIONS := 3.14 3.13 3.12 3.11

# A name on the PATH proves nothing: version managers leave names behind that start no interpreter.
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in $(VERSIONS:%=python%) python3 python; do \
	"$$python" -c '$(USABLE)' >/dev/null 2>&1 && command -v "$$python" && break; done)
endif
PYTHON_VERSION := $(shell "$(PYTHON)" -c '$(USABLE)' >/dev/null 2>&1 && \
	"$(PYTHON)" -c 'import platform; print(platform.python_version())')

BIN := $(VENV)/bin
# Twice quiet: errors are still shown, a build backend's advice is not.
QUIET := --disable-pip-version-check --quiet --quiet
PIP := $(BIN)/python -m pip $(QUIET)

# Stamps: what a virtual environment holds, so that it is made again only when that changes.
INTERPRETER := $(VENV)/.python-$(PYTHON_VERSION)
PACKAGE := $(VENV)/.package
TOOLS := $(VENV)/.tools
NODE_MODULES := $(if $(shell command -v node >/dev/null && command -v npm), \
	tests/node/node_modules/.package-lock.json)

FUZZER := $(VENV)/.fuzzer
PEERS := $(VENV)/.peers
NODE_PEER := $(if $(shell command -v node >/dev/null && command -v npm), \
	benchmarks/node/node_modules/.package-lock.json)

# pyright would ask the network whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

help:
	@echo 'make demo      watch a server and a client greet each other'
	@echo 'make test      run every check: format, lint, import contracts, types, tests, coverage'
	@echo 'make test-all  the same on every Python from 3.11 to 3.14 found here'
	@echo 'make sanitize  run the tests of the compiled half under AddressSanitizer (gcc)'
	@echo 'make conformance  run the Autobahn test suite against server and client (Python 2.7);'
	@echo '                  CASES="6.* 12.1.*", SIDES=server, TLS=1 narrow or change the run'
	@echo 'make fuzz      fuzz every parser, guided by coverage (Atheris); TARGET=frames SECONDS=600'
	@echo '               narrow or prolong the run, MERGE=1 keeps what it found'
	@echo 'make soak      torture the server for SECONDS=600, as SEED= says, or at random'
	@echo 'make build     build the wheel and the sdist and try both in a clean environment'
	@echo 'make format    format the code and apply the safe fixes of the linter'
	@echo 'make bench     measure trio_ws beside its peers in minutes; FULL=1 in more than an hour'
	@echo 'make bench-curves  measure how cost grows with connections, sizes and queues'
	@echo 'make clean     remove what the above made'
	@echo
	@echo 'PYTHON=/path/to/python chooses the interpreter (now: $(or $(PYTHON),none found)).'

demo: $(PACKAGE)
	$(BIN)/python scripts/demo.py

# --verifytypes asks the first python on the PATH where packages are, and does not follow editable
# installs.
# Where there is neither epoll nor kqueue, tasks serve sockets: so the invariants are tested twice.
test: $(TOOLS) $(NODE_MODULES)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH="$(CURDIR)" \
		$(BIN)/pyright --verifytypes trio_ws --ignoreexternal
	TRIO_WS_NO_POLLER=1 $(BIN)/python -m pytest tests/invariants tests/interop
	TRIO_WS_NO_SPEEDUPS=1 $(BIN)/python -m pytest tests/_protocol tests/_transport tests/invariants
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

# One failing version does not keep the others from being tested.
test-all:
	@tested=; failed=; \
	for version in $(VERSIONS); do \
		for python in "python$$version" \
			"$${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version".*/bin/python; do \
			"$$python" -c '$(USABLE)' >/dev/null 2>&1 || continue; \
			echo "== Python $$version: $$python"; \
			tested="$$tested $$version"; \
			$(MAKE) test PYTHON="$$python" VENV=".venvs/$$version" || failed="$$failed $$version"; \
			break; \
		done; \
	done; \
	echo "== tested on:$${tested:- nothing}; failed on:$${failed:- none}"; \
	test -n "$$tested" && test -z "$$failed"

# A build of its own, so that the one in use stays as it is. Every allocation is the sanitizer's,
# and the interpreter's own leaks at its end are not looked at: test_speedups.py looks for ours.
SANITIZED := $(abspath build/sanitized)
SANITIZE := env PYTHONPATH=$(SANITIZED) PYTHONSAFEPATH=1 PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0 TRIO_WS_REQUIRE_SPEEDUPS=1 \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" $(BIN)/python

sanitize: $(TOOLS)
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -R trio_ws $(SANITIZED)/
	rm -f $(SANITIZED)/trio_ws/_protocol/*.so
	$(CC) -std=c11 -Wall -Wextra -Wconversion -Wno-sign-conversion -Werror -O1 -g -shared -fPIC \
		-fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
		-I"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
		trio_ws/_protocol/speedups.c -o $(SANITIZED)/trio_ws/_protocol/speedups.abi3.so
	$(SANITIZE) -c 'from trio_ws._protocol import speedups; \
		assert "$(SANITIZED)" in speedups.__file__, speedups.__file__'
	$(SANITIZE) -m pytest -o pythonpath='$(SANITIZED) .' tests/_protocol

# The suite is a program for Python 2.7, which is looked for, or named by PYTHON27; or WSTEST names
# the program itself. Patterns of cases are not for the shell to expand.
conformance: $(TOOLS)
	set -f; $(BIN)/python -m tests.conformance $(addprefix --side ,$(SIDES)) $(if $(TLS),--tls) $(CASES)

# Without the fuzzer the program says what is missing.
fuzz: $(FUZZER)
	$(BIN)/python -m tests.fuzz $(TARGET) --seconds $(or $(SECONDS),60) \
		$(if $(MERGE),--merge) $(if $(IF_POSSIBLE),--if-possible)
# One variant of the server after the other; tests/torture/README.md says how to read what it prints.
soak: $(TOOLS)
	$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),600) $(addprefix --seed ,$(SEED)) \
		$(if $(FAULT),--fault '$(FAULT)') $(addprefix --server ,$(SERVER))

build: $(TOOLS)
	rm -rf build dist
	$(BIN)/python -m build --config-setting=--build-option=--py-limited-api=cp311
	@for artifact in dist/*.whl dist/*.tar.gz; do \
		echo "== $$artifact in a clean environment"; \
		rm -rf build/clean && $(BIN)/python -m venv build/clean && \
		build/clean/bin/python -m pip $(QUIET) install "$$artifact" && \
		(cd build/clean && bin/python -c 'import importlib.resources, trio_ws, trio_ws.testing; \
			from trio_ws._protocol.frames import implementation; \
			assert importlib.resources.files(trio_ws).joinpath("py.typed").is_file(); \
			print(trio_ws.__file__, implementation())') || exit 1; \
	done

format: $(TOOLS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A peer that cannot be installed is named as absent, and does not stop the others.
bench: $(PEERS) $(NODE_PEER)
	$(BIN)/python -m benchmarks $(if $(FULL),--full) $(BENCH)

bench-curves: $(PEERS) $(NODE_PEER)
	$(BIN)/python -m benchmarks --curves $(BENCH)

clean:
	rm -rf .venv .venvs build dist *.egg-info .coverage htmlcov
	rm -rf tests/node/node_modules tests/conformance/.suite benchmarks/node/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -f trio_ws/_protocol/*.so trio_ws/_protocol/*.pyd
	find trio_ws tests examples scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(INTERPRETER):
	@test -n '$(PYTHON_VERSION)' || { \
		echo 'No usable Python 3.11 or newer: $(or $(PYTHON),none found on the PATH).'; \
		echo 'Install one (on Debian and Ubuntu python3-venv too), or name one:'; \
		echo '    make PYTHON=/path/to/python3 $(MAKECMDGOALS)'; \
		exit 1; } >&2
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(PACKAGE): $(INTERPRETER) pyproject.toml trio_ws/_protocol/speedups.c
	$(PIP) install --editable .
	@touch $@

$(TOOLS): $(PACKAGE)
	$(PIP) install --group dev
	@touch $@

$(FUZZER): $(TOOLS)
	$(PIP) install --group fuzz || true
	@touch $@

# One by one if they do not go in together: not each peer has a wheel for each system.
$(PEERS): $(PACKAGE)
	$(PIP) install --group bench || $(BIN)/python -c 'import tomllib; \
		groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]; \
		print(*groups["bench"], sep="\n")' | \
		while read -r peer; do $(PIP) install "$$peer" || true; done
	@touch $@

benchmarks/node/node_modules/.package-lock.json: benchmarks/node/package.json \
		benchmarks/node/package-lock.json
	cd benchmarks/node && npm ci && touch node_modules/.package-lock.json || true

tests/node/node_modules/.package-lock.json: tests/node/package.json tests/node/package-lock.json
	cd tests/node && npm ci
	@touch $@
