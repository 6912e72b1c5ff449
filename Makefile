# Two commands for users (demo, test), and one that makes a small world anew from nothing (fashion: an
# hour of two cores); all others are for those who work on the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test fashion env lint types clean wheel

demo: env
	$(BIN)/scoreag demo --out runs/demo

fashion: env
	$(BIN)/python benchmarks/fashion.py --out runs/fashion
	$(BIN)/python benchmarks/render.py

test: env lint types
	$(BIN)/python -m pytest

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("ScoreAG needs Python >= 3.11, and this is " + sys.version.split()[0] + "; write make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 --constraint constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	touch $@

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

wheel: env
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build runs .pytest_cache .mypy_cache .ruff_cache
