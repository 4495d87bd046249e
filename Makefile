# The project's commands. `make demo` and `make test` need nothing else first; settings: see setup_environment.sh.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
export VENV
BIN := $(VENV)/bin
# For the tests: TEST_ARGS="-k resume -x" chooses, PYTEST_ADDOPTS adds.
TEST_ARGS ?=
# One thread a process: tests start several processes, and spinning threads slow each other down.
TEST_ENV := OMP_NUM_THREADS=1
# Two at a time; tests/conftest.py says which keep to one worker.
TEST_WORKERS := -n 2 --dist loadgroup
# Triton for `make test-kernels`, beside the environment: torch and DeepSpeed go other ways where they find it.
TRITON := $(CURDIR)/.cache/triton-$(shell sed -n 's/^triton==//p' constraints.txt)

.PHONY: help venv venv-dev demo test test-sweeps test-kernels test-cluster check bench check-pins clean

help:  ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## *' '{ printf "make %-14s %s\n", $$1, $$2 }'

venv:  ## the environment in .venv, with what `zhgpt` needs to run
	@./setup_environment.sh core

venv-dev:  ## the same, with what tests and linters need
	@./setup_environment.sh dev

demo: venv  ## from the embedded Chinese text to a model that speaks, about 10 minutes on two cores
	@$(BIN)/zhgpt demo

test: venv-dev  ## all tests but whole ablations and those of the cluster
	@$(TEST_ENV) $(BIN)/python -m pytest $(TEST_WORKERS) $(TEST_ARGS)

test-sweeps: venv-dev  ## whole ablations, killed and resumed, and DeepSpeed's quirks at the pinned version: about 5 minutes
	@$(TEST_ENV) $(BIN)/python -m pytest tests/ablate tests/pins -m sweep $(TEST_ARGS)

test-kernels: venv-dev  ## compiles Liger-Kernel's kernels for GPUs that need not be here (downloads 200 MB once)
	@$(BIN)/python -c 'import triton' 2> /dev/null || [ -d $(TRITON) ] || \
	    $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -c constraints.txt --target $(TRITON) triton
	@PYTHONPATH=$(TRITON) $(TEST_ENV) $(BIN)/python -m pytest tests/model/test_kernel_builds.py tests/model/test_fused_kernels.py $(TEST_ARGS)

test-cluster: venv-dev  ## two hosts with Slurm and ssh on this machine (root; INSTALL=1 installs Debian packages)
	@./tests/cluster/packages.sh
	@$(TEST_ENV) $(BIN)/python -m pytest tests/cluster -m cluster $(TEST_ARGS)

check: venv-dev  ## ruff, mypy and the fast tests: before every commit
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(TEST_ENV) $(BIN)/python -m pytest -q $(TEST_WORKERS) -m "not slow and not distributed and not sweep and not cluster" $(TEST_ARGS)

bench: venv-dev  ## speed as ratios measured in one run
	@$(BIN)/python -m benchmarks

check-pins: venv-dev  ## which DeepSpeed quirks, guarded against here, the installed version still has
	@$(TEST_ENV) $(BIN)/python tests/pins/check_pins.py

clean:  ## removes what the commands above made, but runs/ and the environment
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
