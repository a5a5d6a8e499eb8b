# Two commands for a fresh clone: `make demo` and `make test`. Each builds .venv by itself.
# No target needs anything but Python 3.11+, make and (for the real PDS) npm.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PDS    := tests/real_pds/node_modules/.installed
PEERS  := bench/node/node_modules/.installed

.PHONY: help demo test test-quick test-pythons torture torture-short bench documents docs deb wheel check format lock clean real-pds peers

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(STAMP)  ## the main job on real traffic on loopback, about 2 minutes
	$(BIN)/python -m tests.demo

test:           ## all tests, the real PDS included; torture has targets of its own
	@echo "make test: about 10 minutes on two cores. It downloads the packages of requirements-dev.lock"
	@echo "(120 MB) and, once, the real PDS and clients from npm (920 MB unpacked). Servers listen on loopback only."
	@command -v chromium >/dev/null || echo "no chromium here: logins through a browser are skipped (Debian: apt install chromium)"
	@$(MAKE) --no-print-directory $(STAMP)
	@$(MAKE) --no-print-directory real-pds || echo "no real PDS here: its tests are skipped, and say why"
	@$(MAKE) --no-print-directory peers || echo "no clients from npm here: their tests are skipped, and say why"
	$(BIN)/pytest -n 3 --dist worksteal -m "not torture"

test-quick: $(STAMP) ## the daily part, less than a minute, no npm
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not real_pds"

test-pythons:   ## test-quick with each Python from 3.11 to 3.14 that is here
	@for version in 3.11 3.12 3.13 3.14; do \
		if python$$version -c pass 2>/dev/null; then \
			$(MAKE) --no-print-directory test-quick PYTHON=python$$version VENV=build/python$$version || exit; \
		else echo "python$$version is not here: not tested"; fi; \
	done

torture-short: $(STAMP) ## a short version of most of it, about 4 minutes
	@$(MAKE) --no-print-directory real-pds || echo "no real PDS here: its part is skipped, and says why"
	@$(MAKE) --no-print-directory peers || echo "no clients from npm here: their part is skipped, and says why"
	$(BIN)/pytest -n 3 --dist worksteal -m torture

torture: $(STAMP) ## everything that tries to lose a session, long version; FULL=--full for the longest
	@$(MAKE) --no-print-directory real-pds || echo "no real PDS here: its part is skipped, and says why"
	@$(MAKE) --no-print-directory peers || echo "no clients from npm here: their part is skipped, and says why"
	$(BIN)/python -m tests.torture $(FULL)

bench: $(STAMP) ## what it costs, beside peers and limits; writes docs/benchmarks.md (BENCH="NAME --quick")
	$(BIN)/python -m bench $(BENCH)

documents: $(STAMP) ## writes docs/{commands,events,status}.md anew; a test compares them
	$(BIN)/python -m tests.docs

docs: $(STAMP)  ## the documentation as a site in build/docs, its links checked
	$(BIN)/sphinx-build -q -W --keep-going -b dirhtml docs build/docs

deb: $(STAMP)   ## the Debian package in build/, for the release of Debian that it is built on
	$(BIN)/python -m deploy.deb

wheel: $(STAMP) ## wheel and source distribution in dist/
	$(BIN)/hatchling build

real-pds: $(PDS) ## install the real PDS (npm, 670 MB) for `make test`

$(PDS): tests/real_pds/package-lock.json
	cd tests/real_pds && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

peers: $(PEERS) ## install the client libraries for Node (npm, 250 MB) for `make test` and `make bench`

$(PEERS): bench/node/package-lock.json
	cd bench/node && npm ci --ignore-scripts --no-audit --no-fund
	@cp $< $@

check: $(STAMP) ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the sources as `check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## renew the locks from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-find-links pyproject.toml --extra daemon -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-find-links pyproject.toml --extra daemon --group dev -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-find-links --group build -o requirements-build.lock

clean:          ## everything that was built here
	rm -rf $(VENV) build dist tests/real_pds/node_modules bench/node/node_modules bench/build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
