# Every target installs what it needs into .venv, and again when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MEASURING := benchmarks/layers.py benchmarks/networks.py $(wildcard benchmarks/measure_*.py)
SOURCES := configs se_unet preprocessing planners inference trainers benchmarks tests
# Files of tests run side by side, one thread each; a file stays together, as its tests share fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile

.PHONY: help setup demo test quick check bench evidence faults fuzz
.DEFAULT_GOAL := help

help:
	@echo "make demo    make phantoms, train on them, segment unseen ones and show the result (some minutes on two cores)"
	@echo "make test    all tests"
	@echo "make quick   the tests that are not marked slow"
	@echo "make check   formatting, lint and types"
	@echo "make bench   the programs that measure"
	@echo "make evidence DATASET=FOLDER [WHOLE=--whole]   few cases, sizes that vary, cost, equivariance"
	@echo "make faults  hundreds of faults injected into running commands (some ten minutes)"
	@echo "make fuzz    more than 100,000 damaged files for everything that reads one (some ten minutes)"
	@echo "make setup   only install into .venv"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "se-unet needs Python 3.10 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check]'
	@# An implementation to compare with in the tests; what it declares to need would bring another PyTorch and is not needed.
	$(BIN)/python -m pip install --quiet --no-deps dynamic-network-architectures==0.4.4
	touch $@

demo: $(READY)
	$(BIN)/python -m benchmarks.demo

test: $(READY)
	$(PYTEST)

quick: $(READY)
	$(PYTEST) -m 'not slow'

check: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

bench: $(READY)
	set -e; for program in $(MEASURING); do \
		$(BIN)/python -m "benchmarks.$$(basename "$$program" .py)"; \
	done

evidence: $(READY)
	$(BIN)/python -m benchmarks.evidence $(DATASET) evidence_output $(WHOLE)

faults: $(READY)
	$(BIN)/python -m benchmarks.faults

fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz
