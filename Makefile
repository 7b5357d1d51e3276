# `make demo` and `make test` work from a bare clone; each sets up .venv when that is needed.
PYTHON ?= python3
VENV ?= .venv
# Where pip finds torch, when not in its usual index. Linux without a GPU, to avoid gigabytes of CUDA:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
# One thread a process: test runners on every core, each with a torch that wants every core, wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
JOBS ?= 2

.PHONY: demo test test-slow check format notebook bench clean help
help:  ## Say what there is to make.
	@sed -n 's/^\([a-z-]*\):.*## /  \1: /p' Makefile

demo: $(VENV)/.installed-train  ## The whole way on drawn bins, offline: fetch, split, train, evaluate, count.
	$(BIN)/bintally demo $(ARGS)

test: $(VENV)/.installed-dev  ## The tests that take seconds (ten minutes in all on two cores).
	$(PYTEST) -n $(JOBS) -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev  ## The other tests.
	$(PYTEST) -n $(JOBS) -m slow $(ARGS)

check: $(VENV)/.installed-dev  ## Lint, types, house rules.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) tests/test_house.py

format: $(VENV)/.installed-dev  ## Put the code into its one form.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebook: $(VENV)/.installed-dev  ## Run notebooks/pipeline.py into notebooks/pipeline.ipynb.
	$(BIN)/python notebooks/run.py $(ARGS)

bench: $(VENV)/.installed-dev $(VENV)/.installed-bench  ## Every benchmark, each one table of ratios; ARGS=name for one.
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove what make made.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What a failure leaves of an environment must not look like one the next time.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bintally needs Python 3.11 or newer: name one, as in make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -f $(VENV)/bin/python*; \
		echo "no environment could be made in $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing bintally[$*] into $(VENV) (a minute or two, once) ..."
	$(if $(TORCH_INDEX),$(PIP) -c constraints.txt $(TORCH) --index-url $(TORCH_INDEX))
	$(PIP) -c constraints.txt -e '.[$*]'
	@touch $@
