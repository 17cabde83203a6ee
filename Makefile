# make demo   train on real images, sample, evaluate; print where the results are
# make test   the fast tests; CI runs those of make test-long, too
# make check  everything that is checked before a change lands
PYTHON ?= python3
VENV   ?= .venv
RUN    ?= runs/digits-vp-ncsnpp
BENCH  ?= runs/bench
PYTEST_ARGS ?= -n 2

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
PROJECT := pyproject.toml constraints.txt
# tests share the cores among their workers
SINGLE  := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# The demo shares its work among processes of one thread: threads wait for each other after every small operator,
# for long where the cores are busy. A power of two divides the batch.
PROCESSES ?= $(shell $(PYTHON) -c "import os; n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(); print(1 if n < 2 else 2 if n < 4 else 4)")
TORCHRUN  = $(if $(filter 1,$(PROCESSES)),,-m torch.distributed.run --standalone --nproc-per-node=$(PROCESSES))

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-slow lint types layers docs notebooks check guard bench format clean

help:
	@echo "make demo    train on real images, sample, evaluate; print where the results are"
	@echo "make test    the fast tests, in three minutes (make test-long: those that CI adds; make test-slow: the slowest)"
	@echo "make check   lint, types, layers, docs, test: what CI runs, but for the built wheel"
	@echo "make format  format the code and fix what ruff can"
	@echo "make notebooks  execute the notebooks and compare what they print with what is stored"
	@echo "make guard   fail where training, sampling or likelihood has become 15 % more work"
	@echo "make bench   time training, sampling and likelihood, briefly; tables and JSON to BENCH=runs/bench"
	@echo "make clean   remove environments, builds and caches; runs stay"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(PROJECT) | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(PROJECT) | $(VENV)/bin/python
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(PROJECT) | $(VENV)/bin/python
	$(INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(SINGLE) $(BIN)/python $(TORCHRUN) -m sde_gen.train sde=vp model=ncsnpp run=$(RUN) engine.batch_size=128 optimizer.lr=2e-3
	$(BIN)/python -m sde_gen.sample run=$(RUN) solver=dpm_solver_pp steps=20 n=64 seed=0
	$(SINGLE) $(BIN)/python $(TORCHRUN) -m sde_gen.evaluate run=$(RUN) metrics=[bpd] integrator.steps=64 batch_size=150
	@$(BIN)/python scripts/report.py $(RUN)

# compiled files serve the other worker and the processes that tests begin, where the environment does without
test: $(VENV)/.installed-dev
	$(SINGLE) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: $(VENV)/.installed-dev
	$(SINGLE) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PYTEST_ARGS) -m "long and not slow and not gpu"

test-slow: $(VENV)/.installed-dev
	$(SINGLE) $(BIN)/python -m pytest $(PYTEST_ARGS) -m "slow and not gpu" --timeout 1200

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

notebooks: $(VENV)/.installed-dev
	$(SINGLE) $(BIN)/python scripts/notebooks.py

check: lint types layers docs test test-long

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

guard: $(VENV)/.installed-dev
	$(SINGLE) $(BIN)/python -m benchmarks.guard

# briefly: what the figures of docs/performance.md were measured with stands there
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.train_step --rounds 4 --steps 1 --out $(BENCH)
	$(BIN)/python -m benchmarks.sample_overhead --rounds 3 --batches 16 --out $(BENCH)
	$(BIN)/python -m benchmarks.likelihood_cost --rounds 3 --batch 8 --out $(BENCH)
	$(BIN)/python -m benchmarks.solver_overhead --rounds 20 --out $(BENCH)
	$(BIN)/python benchmarks/scaling.py --rounds 1 --steps 4 --out $(BENCH)

clean:
	rm -rf $(VENV) dist build docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
