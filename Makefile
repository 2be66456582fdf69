# The set-up is one file that depends on what it installs, so `make` redoes it only when that changes.
PYTHON ?= python3
# Another interpreter has an environment of its own.
VENV ?= .venv$(patsubst -python3,,-$(notdir $(PYTHON)))
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: test lint types tests soak bench demo clean

test: lint types tests

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	$(BIN)/python -m coverage run -m pytest -m 'not soak' $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

soak: $(READY)
	$(BIN)/python -m pytest --hypothesis-profile=soak $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks.backends
	$(BIN)/python -m benchmarks.files

demo: $(READY)
	$(BIN)/python -m examples.roles.demo $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
