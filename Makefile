# Commands for users and contributors. The first target that needs it installs everything into .venv.

PROMPT ?= mountains at sunset by a lake
OUT ?= panorama.png
PORT ?= 8000
PYTHON ?= python3
VENV ?= .venv
# PyTorch from PyPI includes CUDA. Without a GPU, PyTorch's own CPU index saves gigabytes:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# The extras to install. The images install only one of them.
EXTRAS ?= service,worker

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := benchmarks clients docs/recipes engine jobs panoramas recipe service testkit tests training worker

.PHONY: demo serve test test-fast chaos contract hostile screenshots check format openapi wheels setup setup-dev clean

demo: setup ## paint one panorama through the whole service
	$(BIN)/panoramas demo "$(PROMPT)" --out "$(OUT)"

serve: setup ## keep the whole service running on this machine
	$(BIN)/panoramas up --port $(PORT)

test: setup-dev ## every test
	$(BIN)/python -m pytest

test-fast: setup-dev ## the tests that take seconds: run them at every save
	$(BIN)/python -m pytest -m "not chaos and not slow"

chaos: setup-dev ## 500 jobs under random signals, then the longer tests of faults: about ten minutes
	$(BIN)/python -m tests.faults.chaos
	$(BIN)/python -m pytest -m chaos

contract: setup-dev ## schemathesis against the running service, more than 5,000 requests; clients in five languages
	$(BIN)/python -m tests.service.contract --cases 300
	$(BIN)/python -m tests.service.contract --cases 100 --guarded
	$(BIN)/python -m tests.service.generators

hostile: setup-dev ## floods of every shape at a running API, while its health is measured: four minutes
	$(BIN)/python -m tests.faults.hostile

screenshots: setup-dev ## take the documents' pictures of the page again
	$(BIN)/python -m tests.page.screenshots

check: setup-dev ## lint, types, import contracts, compose file, workflows, openapi.yaml
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/python -m service.openapi | diff openapi.yaml - || { echo "openapi.yaml differs: make openapi"; exit 1; }

format: setup-dev ## format the sources
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

openapi: setup-dev ## write openapi.yaml from the application
	$(BIN)/python -m service.openapi > openapi.yaml

wheels: setup-dev ## the client's wheel and sdist, and the server's wheel, in dist/
	cd clients/python && $(abspath $(BIN))/python -m hatchling build --target wheel --target sdist --directory $(CURDIR)/dist
	$(BIN)/python -m hatchling build --target wheel --directory dist

setup: $(VENV)/installed
setup-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml constraints.txt panoramas/_version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x ...")'
	@echo "Installing into $(VENV), once; this takes a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(if $(and $(TORCH_INDEX),$(findstring worker,$(EXTRAS))),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[$(EXTRAS),dev]'
	$(PIP) --no-deps open-clip-torch # for its list of CLIP's tokens alone; what it needs is large
	@touch $@

clean: ## remove the environment, caches and data
	rm -rf $(VENV) data dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
