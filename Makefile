# Everything runs in .venv, which is made on first use: only Python 3.11+, make and the package
# index are needed.  Another interpreter: make PYTHON=/path/to/python3 ...

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
QUICK := tests/test_package.py tests/test_contract.py tests/calculus tests/notation tests/emit/common
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.12 python3 python3.13 python3.11)
BIN := .venv/bin
# Tests run on as many cores as there are; the tests of one file share what they set up, and
# tests/conftest.py says which files come first.
WORKERS ?= auto
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: reference help install demo test quick lint types pytest slow hostile matrix format bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv, with derive and its tools

demo: $(INSTALLED) ## derive, build, verify and simulate one model (into results/)
	$(BIN)/derive list
	$(BIN)/derive show shaped_attention
	$(BIN)/derive build
	$(BIN)/derive verify shaped_attention --level quick
	$(BIN)/derive simulate shaped_attention --param gamma=0.5 --param tau_0=1 --out results
	@echo; echo "The results lie in results/: shaped_attention.npz (arrays) and shaped_attention.png (picture)."

test: lint types pytest ## all checks

lint: $(INSTALLED) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## types
	$(BIN)/mypy

pytest: $(INSTALLED) ## tests alone, but for the slow ones
	$(BIN)/python -m pytest -q -m "not slow" $(SPREAD)

slow: $(INSTALLED) ## the slow tests (large ensembles, killed and distributed runs), by XLA's own defaults
	XLA_FLAGS= $(BIN)/python -m pytest -q -m slow $(SPREAD)

quick: $(INSTALLED) ## the inner loop: layering, contract, notation, calculus, emission
	$(BIN)/python -m pytest -q -m "not slow" $(SPREAD) $(QUICK)

hostile: $(INSTALLED) ## thousands of hostile definitions, names, command lines and damaged files
	DERIVE_HOSTILE=1 $(BIN)/python -m pytest -q tests/commands/test_hostile.py

matrix: ## the inner loop on every Python that is found: 3.11, 3.12, 3.13, each with its newest jax
	@for version in 3.11 3.12 3.13; do \
	  python=; for found in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
	    "$$found" -c "" 2>/dev/null && python=$$found && break; done; \
	  if [ -z "$$python" ]; then echo "Python $$version: not found, not tried"; continue; fi; \
	  env=.venv-$$version; [ -e $$env/.installed ] || { "$$python" -m venv --clear $$env && \
	    $$env/bin/python -m pip --disable-pip-version-check --no-input install -qq -e '.[dev]' && touch $$env/.installed; } || exit 1; \
	  echo "Python $$version, jax $$($$env/bin/python -c 'import jax; print(jax.__version__)')"; \
	  $$env/bin/derive check && $$env/bin/python -m pytest -q -m "not slow" $(SPREAD) $(QUICK) || exit 1; \
	done

reference: $(INSTALLED) ## pages of what Python and the kernels offer, made of docstrings (into reference/)
	$(BIN)/python -m derive.face.reference reference

format: $(INSTALLED) ## rewrite the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## timings against peers (installs the extra `bench`)
	@$(PIP) install -qq -e '.[bench]'
	@set -- tests/benchmarks/*.py; [ -e "$$1" ] || { echo "tests/benchmarks/ holds no benchmark yet"; exit 1; }; \
	for script; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

clean: ## remove .venv, caches and builds (results/ stay)
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is touched last, so an interrupted install is taken up again.
$(INSTALLED): pyproject.toml
	@for python in $(CANDIDATES); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "derive needs Python 3.11 or newer with its venv module; none of these is: $(CANDIDATES)" >&2; \
	  echo "name one: make PYTHON=/path/to/python3 (on Debian, venv is the package python3-venv)" >&2; exit 1; \
	fi; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear .venv
	@echo "installing derive and its tools into .venv ($$($(BIN)/python --version); about a minute) ..."
	@$(PIP) install -qq -e '.[dev]' # -qq: errors alone
	@touch $@
