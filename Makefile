# Two commands on a fresh machine: `make demo` runs a real sweep here, `make test` passes the tests.
# Both make .venv and install what is missing. Needs Python 3.11 or later (make PYTHON=python3.12 … for another one).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_WORKSPACE ?= terry-runs
# most of the suite waits: several workers, groups as in tests/conftest.py
SIDE_BY_SIDE := -n auto

# What an install depends on; the kernels are compiled by it where a C compiler is.
MADE_OF := pyproject.toml setup.py constraints.txt $(wildcard models/kernels/*.[ch])

.PHONY: demo test lint docs clean install

demo: $(VENV)/.installed
	@terry() { $(BIN)/terry-cluster -w "$(DEMO_WORKSPACE)" "$$@"; }; \
	trap 'terry down' EXIT; \
	terry submit examples/demo.yaml --watch && terry wait demo && terry results demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev                # into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -W ignore -m mkdocs build --strict

install: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; \"$(PYTHON)\" is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(MADE_OF) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(MADE_OF) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
