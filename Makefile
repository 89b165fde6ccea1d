# Everything a newcomer types. Each target sets up what it needs in .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# Where `make run` keeps its files; empty: the user's data folder.
DATA   ?=

.PHONY: setup run test test-all lint types wheel bench simulate clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml examples/redis/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("FaaSKeeper needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -e examples/redis >&2
	@touch $@

run: $(STAMP)
	@$(BIN)/fk $(if $(DATA),--directory $(DATA)) shell

test: $(STAMP)
	@$(BIN)/python -m pytest -m 'not slow'

test-all: $(STAMP)
	@$(BIN)/python -m pytest

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

wheel: $(STAMP)
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --outdir dist . > build.log 2>&1 || { cat build.log >&2; exit 1; }
	@rm -f build.log

bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.embedded

# make simulate SEEDS=2000 START=0, or SECONDS=600 for a time instead.
SEEDS   ?= 2000
START   ?= 0
SECONDS ?= 0

simulate: $(STAMP)
	@$(BIN)/python -m faaskeeper.testing.simulate --seeds $(SEEDS) --start $(START) --seconds $(SECONDS)

clean:
	rm -rf $(VENV) build dist *.egg-info
