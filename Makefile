# Isochrone. `make demo` and `make test` set up everything they need; `make` alone lists what there is.
PYTHON  ?= python3
VENV    ?= .venv
BIN     := $(VENV)/bin
DEMO    ?=
PYTEST  ?=
FAULTS  ?=
FUZZ    ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench faults docs dist clean system-demo system-test

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: system-demo $(VENV)/.app  ## Measure a lab of 24 sites on real packets and open the dashboard (DEMO="--once --seconds 30 --json")
	@$(BIN)/isochrone demo $(DEMO)

test: system-test $(VENV)/.dev  ## Run the tests (PYTEST="-k ping" for some of them)
	scripts/run-tests $(BIN)/python "not slow" $(PYTEST)

test-all: system-test $(VENV)/.dev  ## Run the tests, the long ones too
	scripts/run-tests $(BIN)/python "" $(PYTEST)

lint: $(VENV)/.dev  ## ruff, mypy, the import rules, and whether the documentation holds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/build-docs --check
	$(BIN)/python -m pytest -q --no-header tests/test_docs.py -k "exists or links"

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: system-test $(VENV)/.dev  ## Measure every claim beside what you would use instead
	@for script in bench/*.py; do $(BIN)/python $$script || exit $$?; done

faults: system-test $(VENV)/.dev  ## Do each fault to real processes and write docs/faults.md (FAULTS="--only collector-killed")
	@$(BIN)/python -m lab.faults $(or $(FAULTS),--write docs/faults.md)

docs: $(VENV)/.dev  ## Write docs/reference from the code
	$(BIN)/python scripts/build-docs

dist: $(VENV)/.dist  ## Build sdist and wheel into dist/, the same bytes everywhere, and check them
	$(BIN)/python scripts/build-dist
	$(BIN)/twine check --strict dist/isochrone-*
	$(BIN)/check-wheel-contents dist/isochrone-*.whl

fuzz: $(VENV)/.dev  ## Give the collector and the decoders a hundred thousand inputs that nobody meant (FUZZ="--inputs 1000000 --json")
	$(BIN)/python tests/security/fuzzing.py $(FUZZ)

clean:  ## Remove the environment and what tests left
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

system-demo:
	@scripts/system-packages demo

system-test:
	@scripts/system-packages test

# The stamps stand for "installed as pyproject.toml and constraints.txt say now".
$(VENV)/.app: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" all
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" dev
	@touch $@ $(VENV)/.app

$(VENV)/.dist: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" dist
	@touch $@
