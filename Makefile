# make verify    set everything up in .venv, then check every kernel (ARGS="--profile quick" narrows it)
# make test      the tests of our own code
# make lint      format, lint, types and layers
# make gpu       check every kernel on the CUDA device of this machine
# make bench     CPU timings beside the peers that are installed
#
# PYTHON           interpreter that .venv is made from; if it imports torch, that torch is kept and used
# TORCH_INDEX_URL  package index for the pinned torch (a CPU-only or a CUDA one), where none is importable

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := verify

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
ARGS ?=
JOBS ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.deltaproof-installed

.PHONY: verify test lint gpu bench setup clean

verify: setup
	$(BIN)/verify all $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

gpu: setup
	$(BIN)/python -c 'import torch; assert torch.cuda.is_available(), "make gpu needs a CUDA device; torch sees none"'
	$(BIN)/verify all --device cuda $(ARGS)

bench: setup
	$(BIN)/python -m pytest tests/bench/bench_cpu.py --benchmark-group-by=group --benchmark-columns=min,median,iqr,rounds $(ARGS)

setup: $(STAMP)

# torch comes first: what depends on it would otherwise pull in whichever build is newest.
$(STAMP): pyproject.toml constraints.txt .import/deltaproof/__init__.py
	if [ ! -x $(BIN)/python ]; then \
	  if $(PYTHON) -c 'import torch' 2>/dev/null; then $(PYTHON) -m venv --system-site-packages $(VENV); \
	  else $(PYTHON) -m venv $(VENV); fi; \
	fi
	if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  $(BIN)/python -m pip install $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) "$$(grep '^torch==' constraints.txt)"; \
	fi
	{ grep -vE '^(torch|triton)==' constraints.txt; \
	  for name in torch triton; do \
	    $(BIN)/python -c "import importlib.metadata as m; print('$$name==' + m.version('$$name'))" 2>/dev/null \
	      || grep "^$$name==" constraints.txt; \
	  done; } > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --constraint $(VENV)/constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
