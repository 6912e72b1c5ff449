# Two commands for users (demo, test), and one that makes a small world anew from nothing (fashion: an
# hour of two cores); all others are for those who work on the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What is tested with the lowest releases of the dependencies: three minutes, and no training.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/core tests/diffusion tests/samplers tests/networks tests/classifiers tests/convert \
  tests/metrics tests/stats tests/report tests/attacks tests/models tests/io tests/cli/test_cli.py

# What one runs while working: no trainings, no runs of commands, nothing slow.
FAST_TESTS := tests/core tests/diffusion tests/samplers tests/metrics tests/stats tests/networks \
  tests/data tests/io tests/test_layers.py tests/test_docs.py tests/test_docstrings.py tests/test_config.py

# An environment with the wheel, in which the notebooks of examples/ run.
WHEEL_ENV := .venv-wheel

.PHONY: results docs demo test test-fast test-lowest fashion env lint types clean wheel container notebooks

demo: env
	$(BIN)/scoreag demo --out runs/demo

fashion: env
	$(BIN)/python benchmarks/fashion.py --out runs/fashion
	$(BIN)/python benchmarks/render.py

# the tables of benchmarks/results.toml that are not of this version's algorithm; goes on after a stop
results: env
	$(BIN)/python benchmarks/all_results.py $(if $(WEIGHTS),--weights $(WEIGHTS))
	$(BIN)/python benchmarks/render.py

test-fast: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(FAST_TESTS)

test: env lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# old packages warn of what they use themselves; their types are checked by the full tests
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -o addopts="-q --strict-markers" -W ignore::DeprecationWarning \
	  -m "not slow and not weights" --ignore tests/metrics/test_fid_torchmetrics.py \
	  --ignore tests/attacks/test_foolbox.py $(LOWEST_TESTS)

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --editable . pytest hypothesis \
	  beartype --constraint constraints-lowest.txt
	touch $@

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

# the pages of docs/ and the reference from the docstrings, as a site in build/site; a warning is an error
docs: env
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]' --constraint constraints.txt
	$(BIN)/python -m mkdocs build --strict --site-dir build/site

wheel: env
	$(BIN)/python -m build --wheel

# torch without CUDA: make container TORCH_INDEX_URL=the package index of PyTorch's CPU wheels
container:
	docker build --target cpu --build-arg TORCH_INDEX_URL=$(TORCH_INDEX_URL) --tag scoreag:cpu .

notebooks: wheel
	$(PYTHON) -m venv $(WHEEL_ENV)
	$(WHEEL_ENV)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 --constraint constraints.txt
	$(WHEEL_ENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
	  "$$(ls -t dist/scoreag-*.whl | head -1)"
	$(WHEEL_ENV)/bin/pip install --quiet --disable-pip-version-check "$$(ls -t dist/scoreag-*.whl | head -1)[pandas]" \
	  pytest nbclient ipykernel --constraint constraints.txt
	OMP_NUM_THREADS=1 $(WHEEL_ENV)/bin/python -m pytest -o addopts="-q --strict-markers" -o pythonpath=tests \
	  tests/examples

# with the runs in this folder
clean:
	rm -rf $(VENV) $(LOWEST) $(WHEEL_ENV) dist build runs .pytest_cache .mypy_cache .ruff_cache
