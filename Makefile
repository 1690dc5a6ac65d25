# `make` alone lists what there is. Every target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Seeded share of the long checks: `full` or `slice` (what CI runs).
LONG ?= full
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install demo test check check-long peers readers bench docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## build .venv with everything, pinned; a torch that is in it is kept

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: expected Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON="; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip<27"
	$(BIN)/python -c 'import torch' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	{ grep -v '^torch' constraints.txt; $(BIN)/python -m pip freeze | grep -E '^torch(vision)?=='; } \
		> $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -e ".[all,tonic,dev]"
	@touch $(READY)

demo: $(READY)  ## simulated recordings to a trained model, under 5 minutes
	$(BIN)/python examples/demo.py

test: $(READY)  ## the test suite, under 10 minutes
	$(BIN)/python -m pytest -n 2

check: $(READY)  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-long: $(READY)  ## kills, fuzz, accuracy; LONG=slice SEED=n for a part
	EVENTKIT_LONG=$(LONG) EVENTKIT_SEED=$(SEED) $(BIN)/python -m pytest -m long --timeout 1500

peers:  ## formats beside other libraries (some GPL), in .venv-peers, an environment of its own
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		-r tests/peers.txt ".[aedat4,hdf5,images,parquet,ros,zstd]"
	.venv-peers/bin/python -m pytest -q -rs tests/eventkit/test_writers_*.py \
		tests/eventkit/test_readers_*.py tests/eventkit/test_interop_peers.py

readers: $(READY)  ## shards in webdataset, wids, datasets, energon; in .venv-readers, without eventkit
	test -x .venv-readers/bin/python || $(PYTHON) -m venv .venv-readers
	.venv-readers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/readers.txt
	$(BIN)/python tests/readers_venv/make_sets.py .venv-readers/sets
	EVENTKIT_SETS=$(CURDIR)/.venv-readers/sets HF_HUB_OFFLINE=1 HF_HOME=$(CURDIR)/.venv-readers/hf \
		.venv-readers/bin/pytest -c tests/readers_venv/pytest.ini tests/readers_venv/matrix.py

bench: $(READY)  ## the tables that the docs quote, beside the peers that are installed
	$(BIN)/python benchmarks/run_all.py

docs: $(READY)  ## remake the tables and pictures of docs, run every example
	$(BIN)/python docs/make_representations.py
	$(BIN)/python docs/make_event_inputs.py
	$(BIN)/python -m pytest tests/test_docs.py

clean:  ## remove what was built here; .venv stays
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
