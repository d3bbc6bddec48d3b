# Everything that a person or CI does here. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built-$(or $(COMPILE),auto)
FUZZER := $(VENV)/.fuzzer
PLOTTER := $(VENV)/.plotter
MUTATOR := $(VENV)/.mutator
SUPPLIER := $(VENV)/.supplier
RELEASED := build/released
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help run test lint format unit integration e2e h2spec fuzz mutants chaos bench soak manifests screenshot dashboard protos protos-check docs dist audit sbom lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@# The checkout comes after what is installed: demo, bench, chaos and tests are found there.
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | while read -r packages; do \
		echo "$(CURDIR)" > "$$packages/checkout.pth"; done
	@touch $@

$(BUILT): $(INSTALLED) hatch_build.py pyproject.toml README.md $(shell find authz_service -type f -not -name '*.pyc')
	@echo "building the service; compiling it takes about a minute (COMPILE=no: plain Python, slower)"
	@rm -rf build/wheel
	@$(BIN)/python -m hatchling build -t wheel -d build/wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index build/wheel/*.whl
	@rm -f $(VENV)/.built-*
	@touch $@

# What is run and measured is what was built, not the checkout. Rooms are tested in the checkout and, again, as built.
run compiled integration e2e h2spec chaos soak bench: $(BUILT)
run compiled integration e2e h2spec chaos soak bench: export PYTHONSAFEPATH = 1

run: $(INSTALLED) ## the demo: Auth-API, chat-api, the authorizer and a real Envoy; Ctrl-C ends it (ARGS=--help)
	@$(BIN)/python -m demo $(ARGS)

test: lint protos-check unit compiled integration e2e ## everything that CI checks

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: $(INSTALLED) ## the rooms, one by one
	$(BIN)/pytest -q tests --ignore=tests/integration --ignore=tests/e2e

compiled: $(INSTALLED) ## the same, of what was built
	$(BIN)/pytest -q tests -o pythonpath= -m "not checkout" --ignore=tests/integration --ignore=tests/e2e

integration: $(INSTALLED) ## the service on real sockets
	$(BIN)/pytest -q tests/integration

e2e: $(INSTALLED) ## the service behind a real Envoy
	$(BIN)/pytest -q tests/e2e

h2spec: $(INSTALLED) ## the native transport against the public conformance test of HTTP/2, if h2spec is on PATH
	@$(BIN)/python -m tools.h2spec

$(FUZZER): requirements/fuzz.lock $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
		-r requirements/fuzz.lock || { echo "atheris, the fuzzer, was not installed, for the reason above. It is \
	built for CPython 3.11 to 3.14 on Linux, x86-64; choose a Python with: make clean && make PYTHON=python3.12 fuzz \
	(make unit runs the seeds without it)"; exit 1; }
	@touch $@

fuzz: $(FUZZER) ## hostile input for the parsers, SECONDS=60 each (TARGET=path for one)
	@$(BIN)/python -m tools.fuzz --seconds $(SECONDS) $(TARGET)

$(MUTATOR): requirements/mutants.lock $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/mutants.lock
	@touch $@

mutants: $(MUTATOR) ## whether the tests notice small changes in token/, policy/path.py and response/ (ARGS=--help)
	@$(BIN)/python -m tools.mutants $(ARGS)

chaos: $(INSTALLED) ## the faults of docs/reliability.md, promise beside measurement (ARGS='--only NAME', --help)
	@$(BIN)/python -m chaos $(ARGS)

soak: $(INSTALLED) ## ten minutes of load with a rotation every minute
	@$(BIN)/python -m chaos --soak $(ARGS)

$(PLOTTER): requirements/bench.lock $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	@touch $@

bench: $(PLOTTER) ## the figures of docs/benchmarks, beside their peers (QUICK=1: two minutes; ARGS='--only core', --help)
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

manifests: $(INSTALLED) ## the Kubernetes manifests of deploy/, rendered into build/ (POLICY=policy.yaml for yours)
	@$(BIN)/python -m tools.manifests $(if $(POLICY),--policy "$(POLICY)")

screenshot: $(INSTALLED) ## draw the status page for the README anew (needs chromium)
	@$(BIN)/python -m tools.screenshot

protos: $(INSTALLED) ## regenerate authz_service/_pb from protos/
	$(BIN)/python -m tools.protos

protos-check: $(INSTALLED) ## fail if authz_service/_pb is not what protos/ gives
	$(BIN)/python -m tools.protos --check

docs: $(INSTALLED) ## write the tables of settings in README.md and docs/ again
	$(BIN)/python -m tools.docs

dist: $(INSTALLED) ## wheel and sdist for any machine in dist/, not compiled (TAG=v1.2.3: only if that is the version)
	@version=v$$($(BIN)/python -c 'import authz_service; print(authz_service.__version__)'); \
		[ "$(or $(TAG),$$version)" = "$$version" ] || { echo "TAG=$(TAG), but the version is $$version"; exit 1; }
	@rm -rf dist
	@COMPILE=no $(BIN)/python -m hatchling build --directory dist

$(SUPPLIER): requirements/supply.lock $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/supply.lock
	@touch $@

audit: $(SUPPLIER) ## known vulnerabilities of the locked versions (needs the network)
	@$(BIN)/python -m tools.audit

sbom: $(SUPPLIER) dist ## what an installation of the release is made of, with licences: CycloneDX in dist/
	@$(PYTHON) -m venv --clear --without-pip $(RELEASED)
	@$(BIN)/python -m pip --python $(RELEASED) install --quiet --require-hashes -r requirements/runtime.lock
	@$(BIN)/python -m pip --python $(RELEASED) install --quiet --no-deps --no-index --find-links dist authz-service
	@$(BIN)/cyclonedx-py environment $(RELEASED) --output-reproducible --of JSON -o dist/authz-service.cdx.json

dashboard: $(INSTALLED) ## write deploy/monitoring/dashboard.json from tools/dashboard.py
	$(BIN)/python -m tools.dashboard

format: $(INSTALLED) ## mend what ruff can mend
	$(BIN)/ruff check --fix .

lock: ## lock the dependencies again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' pyproject.toml -o requirements/runtime.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' pyproject.toml --extra otel --group dev -o requirements/dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' -c requirements/dev.lock --group build -o requirements/build.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' --group fuzz -o requirements/fuzz.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' --group bench -o requirements/bench.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' -c requirements/dev.lock --group mutants -o requirements/mutants.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' -c requirements/dev.lock --group supply -o requirements/supply.lock

clean: ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz build dist mutants
