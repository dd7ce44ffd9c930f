# Every target installs what it needs into .venv, and again when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Programs that measure within some minutes and need no other data.
MEASURING := layers networks resampling load
SOURCES := configs se_unet preprocessing planners inference trainers benchmarks tests docs/examples
# Files of tests run side by side, one thread each; a file stays together, as its tests share fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile

.PHONY: help setup demo test thorough quick check bench evidence gpu faults fuzz minimum audit licences docs
.DEFAULT_GOAL := help

help:
	@echo "make demo    make phantoms, train on them, segment unseen ones and show the result (some minutes on two cores)"
	@echo "make test    the tests, but for those of thorough, faults and fuzz"
	@echo "make thorough   tests that take long: one in ten of the faults, 20,000 damaged files, large networks"
	@echo "make quick   the tests that are not marked slow"
	@echo "make check   formatting, lint and types"
	@echo "make bench   measure: $(MEASURING:%=benchmarks.cost.%)"
	@echo "make evidence DATASET=FOLDER [WHOLE=--whole]   few cases, sizes that vary, cost, equivariance"
	@echo "make gpu [PARTS='labels peaks'] [DEVICE=cuda:1]  check a GPU: results, memory, speed, a real training (minutes for each part)"
	@echo "make faults  hundreds of faults injected into running commands (about an hour)"
	@echo "make fuzz    120,000 damaged files for everything that reads one (about half an hour);"
	@echo "             GUIDED='NIfTI NRRD': some readers for three minutes each, guided by coverage; needs atheris"
	@echo "make minimum PYTHON=python3.10   quick tests with the lowest versions that are admitted (downloads some GB into .venv-minimum)"
	@echo "make audit   known vulnerabilities of the tested versions (asks PyPI)"
	@echo "make licences   write the licences of what is installed into docs/reference/licences.md"
	@echo "make docs    build the documentation's site in ./site"
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
	$(BIN)/python -m benchmarks.demo.demo

test: $(READY)
	$(PYTEST)

thorough faults: $(READY)
	$(PYTEST) -m $@

quick: $(READY)
	$(PYTEST) -m 'not slow'

check: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

bench: $(READY)
	set -e; for program in $(MEASURING); do \
		$(BIN)/python -m "benchmarks.cost.$$program"; \
	done

evidence: $(READY)
	$(BIN)/python -m benchmarks.evidence.evidence $(DATASET) evidence_output $(WHOLE)

gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu.check $(PARTS) $(if $(DEVICE),--device $(DEVICE))

fuzz: $(READY)
	$(if $(GUIDED),$(BIN)/python -m tests.fuzz.guided $(GUIDED),$(PYTEST) -m fuzz)

licences: $(READY)
	$(BIN)/python -m benchmarks.pages.licences

# The site's tools need Python 3.11 or later.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m benchmarks.pages.site

# An environment of its own; PyTorch of this age comes with CUDA. What old libraries warn of is their own affair.
minimum:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' \
		|| { echo "the lowest versions are for Python 3.10; name one with: make PYTHON=python3.10 minimum" >&2; exit 1; }
	test -x .venv-minimum/bin/python || $(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --constraint constraints-minimum.txt --editable '.[test]'
	OMP_NUM_THREADS=1 .venv-minimum/bin/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile -m 'not slow' -W default

audit:
	test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --upgrade pip-audit
	.venv-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict
