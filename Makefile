# What users and contributors type. Everything is installed into .venv by the first target that needs it.

PROMPT ?= mountains at sunset by a lake
OUT ?= panorama.png
PORT ?= 8000
PYTHON ?= python3
VENV ?= .venv
# PyTorch from PyPI brings CUDA. Machines without a GPU save gigabytes with PyTorch's own CPU index:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# What is installed: all of it; an image takes only its part.
EXTRAS ?= service,worker

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := benchmarks docs/recipes engine jobs panoramas recipe service testkit tests training worker

.PHONY: demo serve test chaos contract screenshots check format openapi setup setup-dev clean

demo: setup ## paint one panorama through the whole service
	$(BIN)/panoramas demo "$(PROMPT)" --out "$(OUT)"

serve: setup ## keep the whole service running on this machine
	$(BIN)/panoramas up --port $(PORT)

test: setup-dev ## every test
	$(BIN)/python -m pytest

chaos: setup-dev ## 500 jobs amid random signals, then the longer tests of faults: about ten minutes
	$(BIN)/python -m tests.faults.chaos
	$(BIN)/python -m pytest -m chaos

contract: setup-dev ## schemathesis against the running service: more than 5,000 requests, two minutes
	$(BIN)/python -m tests.service.contract --cases 300

screenshots: setup-dev ## the pictures of the page in the documents, painted anew
	$(BIN)/python -m tests.page.screenshots

check: setup-dev ## lint, types, architecture, openapi drift, compose file
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python -m service.openapi | diff openapi.yaml - || { echo "openapi.yaml differs: make openapi"; exit 1; }

format: setup-dev ## put the sources into the house style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

openapi: setup-dev ## write openapi.yaml anew from the application
	$(BIN)/python -m service.openapi > openapi.yaml

setup: $(VENV)/installed
setup-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x ...")'
	@echo "Installing into $(VENV); this happens once and takes a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(if $(findstring worker,$(EXTRAS)),$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch)
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[$(EXTRAS),dev]'
	@touch $@

clean: ## remove what set-up and runs have made
	rm -rf $(VENV) data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
