# make verify    set everything up in .venv, then check every kernel (ARGS="--profile quick" narrows it)
# make test      the tests of our own code
# make test-peers  those of them that need flash-linear-attention, Kernel Tuner or cosmic-ray, which it puts into .venv
# make lint      format, lint, types and layers
# make docs      the site of these pages, into build/site; ends with 1 on any warning
# make forge     check workflows, actions, issue forms and the citation by their schemas, and workflows for holes
# make gpu       check, time, verify and tune on the CUDA device of this machine, in 8 minutes; call it again to go on
# make gpus      write results/gpus.json from specs/gpus.toml
# make wheelhouse  download what `make gpu WHEELS=dir` needs on a machine without a network, into dir
# make peers-V   judge fla-core V (0.5.2, 0.6.0) and write results/peers; fails as it should, since both have faults
# make bench     our kernels beside flash-linear-attention's, on the GPU if there is one, else on the CPU
# make bytes     bytes that both move, counted in the interpreter, and what their programs do as compiled
# make growth    errors along 65,536 tokens and 10,000 steps of decoding, into results/bench
# make host      microseconds of host time per call of both, launches left out
# make instructions  instructions that both issue per token, counted in compiled code
# make binaries  registers, spills and tensor-core instructions of both, compiled for GPUs that need not be here
# make defaults  judge the safe default of every op as compiled, for four architectures (what ships has two), into results/defaults
# make planted   plant faults in our kernels as compiled, and count what is caught
# make ptx-features  every feature of Triton that the PTX engine is tested on, for four architectures
# make ptx-data  the compiled programs that tests keep, made again
#
# PYTHON           interpreter that .venv is made from; if it imports torch, that torch is kept and used
# TORCH_INDEX_URL  package index for the pinned torch (a CPU-only or a CUDA one), where none is importable
# WHEELS           folder of wheels to use instead of a network; HAVE: packages that the machine has, and needs no wheel for
# WHEEL_PYTHON     Python version of the machine that the wheels are for
# RESULTS_TAR      folder that gets all that `make gpu` found, in few archives, after every step; RESULTS_FROM: to go on from

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := verify

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
ARGS ?=
# One more than there are cores: many tests wait for a child.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)))
RESULTS_TAR ?=
RESULTS_FROM ?=

WHEELS ?=
WHEEL_PYTHON ?= 3.12
WHEEL_PLATFORMS ?= $(foreach glibc,2_39 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17,manylinux_$(glibc)_x86_64) \
  manylinux2014_x86_64 manylinux1_x86_64
HAVE ?= torch triton
# What only the site needs.
DOCS := babel backrefs certifi charset-normalizer colorama ghp-import griffelib idna latex2mathml markdown mergedeep mkdocs mkdocs-autorefs \
  mkdocs-get-deps mkdocs-material mkdocs-material-extensions mkdocstrings mkdocstrings-python paginate pymdown-extensions \
  pyyaml-env-tag requests urllib3 watchdog
# Tools of this repository, and what they alone need.
NOT_ON_GPU := $(DOCS) ruff pyright nodeenv import-linter grimp build pyproject_hooks hatchling trove-classifiers tomlkit sympy networkx \
  pgserver fasteners psutil
PEER_TESTS := tests/autotune/test_fla.py tests/kernels/test_layers_fla.py tests/results/test_exports.py tests/verify/test_engines.py tests/verify/test_targets.py
PEER_PINS := fla-core==0.6.0 einops==0.8.2 nvidia-ml-py==13.615.71
SITE := $(CURDIR)/.deltaproof/site
empty :=
space := $(empty) $(empty)

BIN := $(VENV)/bin
STAMP := $(VENV)/.deltaproof-installed

.PHONY: verify test test-peers lint docs forge gpu gpus offline wheelhouse bench host growth bytes instructions binaries defaults planted ptx-features ptx-data setup \
  clean

verify: setup
	$(BIN)/verify all $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# The import fails where a test would only be skipped. -P, since transformers would import our folder kernels.
test-peers: setup
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt flash-linear-attention==0.6.0 kernel_tuner==1.3.1 cosmic-ray==8.7.0
	TRITON_INTERPRET=1 $(BIN)/python -P -c 'import fla.layers, kernel_tuner.file_utils, jsonschema, cosmic_ray.plugins'
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PEER_TESTS) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

docs: setup
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m pytest -rs tests/docs/look_at_site.py

forge: setup
	$(BIN)/python -m pip install --quiet check-jsonschema==0.39.0 zizmor==1.32.0
	$(BIN)/python -m pytest tests/test_forge.py

# With WHEELS, nothing is fetched: the machine's own torch and triton, and wheels for the rest.
gpu: $(if $(WHEELS),offline,setup)
	PYTHONPATH=$(if $(WHEELS),$(SITE):)$(CURDIR)/.import $(if $(WHEELS),$(PYTHON),$(BIN)/python) tests/bench/on_gpu.py \
	  $(if $(RESULTS_TAR),--tar $(RESULTS_TAR)) $(if $(RESULTS_FROM),--from $(RESULTS_FROM)) $(ARGS)

gpus: setup
	$(BIN)/python -m deltaproof.autotune.records.gpu_facts

offline:
	$(PYTHON) -c 'import torch, triton'
	wheels=$$(cd $(WHEELS) && ls *.whl); \
	if [ "$$wheels" != "$$(cat $(SITE)/.wheels 2>/dev/null)" ]; then \
	  $(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(SITE) $(WHEELS)/*.whl; \
	  printf '%s\n' "$$wheels" > $(SITE)/.wheels; \
	fi

wheelhouse:
	$(if $(WHEELS),,$(error make wheelhouse needs WHEELS=dir, where the wheels go))
	mkdir -p $(WHEELS)
	{ grep -vE '^#' constraints.txt; printf '%s\n' $(PEER_PINS); } | tr _ - \
	  | grep -viE '^($(subst $(space),|,$(subst _,-,$(strip $(HAVE) $(NOT_ON_GPU)))))==' > $(WHEELS)/pins.txt
	$(PYTHON) -m pip download --no-deps --only-binary=:all: --implementation cp --python-version $(WHEEL_PYTHON) \
	  $(addprefix --platform ,$(WHEEL_PLATFORMS)) --dest $(WHEELS) --requirement $(WHEELS)/pins.txt

bench: setup $(VENV)/peers/fla-core-0.6.0
	export PYTHONPATH=$(CURDIR)/$(VENV)/peers/fla-core-0.6.0; \
	$(BIN)/python tests/bench/side_by_side.py $(ARGS); \
	$(BIN)/python -m pytest tests/bench/bench_cpu.py --benchmark-timer=time.process_time --benchmark-group-by=group \
	  --benchmark-columns=min,median,iqr,rounds

host: setup $(VENV)/peers/fla-core-0.6.0
	PYTHONPATH=$(CURDIR)/$(VENV)/peers/fla-core-0.6.0 $(BIN)/python tests/bench/host_time.py $(ARGS)

growth: setup
	$(BIN)/python tests/bench/growth.py $(ARGS)

bytes: setup
	$(BIN)/python tests/bench/byte_counts.py $(ARGS)

instructions: setup $(VENV)/peers/fla-core-0.6.0
	PYTHONPATH=$(CURDIR)/$(VENV)/peers/fla-core-0.6.0 $(BIN)/python tests/bench/instructions.py $(ARGS)

binaries: setup
	$(BIN)/python tests/bench/binaries.py $(ARGS)

defaults: setup
	$(BIN)/autotune defaults --out results/defaults $(ARGS)

planted: setup
	$(BIN)/python tests/bench/planted.py $(ARGS)

ptx-features: setup
	for arch in 80 86 89 90; do \
	  PYTHONPATH=$(CURDIR)/.import:$(CURDIR) $(BIN)/python -m tests.verify.ptx.run_features $$arch; \
	done

ptx-data: setup
	PYTHONPATH=$(CURDIR)/.import:$(CURDIR) $(BIN)/python -m tests.verify.ptx.make_data

# The package lies in a folder of its own beside .venv's torch and Triton. `verify` ends with 1 where something fails, and
# so does this, after the reports are written. Paths in them are cut to what lies in the package.
PEER_ARGS ?= --profile quick --property memory --property causality --property error \
  --kernel '*_gdn2' --kernel '*_kda' --kernel '*_rule' --kernel '*_gla' --kernel '*/safe_gate'
EINOPS := einops==0.8.2

peers-%: setup $(VENV)/peers/fla-core-%
	site=$(CURDIR)/$(VENV)/peers/fla-core-$*; report=results/peers/fla-core-$*; mkdir -p results/peers; \
	code=0; PYTHONPATH=$$site $(BIN)/verify all --target fla $(PEER_ARGS) $(ARGS) \
	  --json $$report.json --html $$report.html || code=$$?; \
	if [ $$code -le 1 ]; then \
	  sed -i "s|$$site/||g" $$report.json $$report.html; \
	  $(BIN)/verify report $$report.json --format md > $$report.md || true; \
	fi; \
	exit $$code

# What is only made on the way to a report is kept.
.PRECIOUS: $(VENV)/peers/fla-core-%

$(VENV)/peers/fla-core-%: | setup
	rm -rf $@.part
	$(BIN)/python -m pip install --no-deps --target $@.part fla-core==$* $(EINOPS)
	mv $@.part $@

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
