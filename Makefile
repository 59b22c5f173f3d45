# make run       creates the environment, installs, opens the app at PORT, or at the first free port from 8501
# make test      installs the test requirements and a browser, runs linters and all tests; ARGS="-k layout" selects tests
# make bench     runs twelve measurements (docs/measured.md)
# make recorded  records anew what the pages show before a visitor runs anything; ARGS="sparse" one of them
PYTHON ?= python3
VENV ?= .venv
PORT ?=
ARGS ?=
MODEL ?= mini-v3
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test lint bench recorded browser

run: $(VENV)/run.stamp
	$(PY) -m streamlit run app.py $(if $(PORT),--server.port $(PORT))

# Each part runs even if an earlier one failed; the last line counts the tests.
test: $(VENV)/dev.stamp
	@status=0; for part in browser lint; do $(MAKE) --no-print-directory $$part || status=1; done; \
	$(PY) -m tests.run $(ARGS) || status=1; exit $$status

lint: $(VENV)/dev.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

bench: browser
	$(PY) -m tests.benchmarks.parity
	$(PY) -m tests.benchmarks.speed $(MODEL)
	$(PY) -m tests.benchmarks.attention $(MODEL)
	$(PY) -m tests.benchmarks.screen
	$(PY) -m tests.benchmarks.sessions
	$(PY) -m tests.benchmarks.sparse
	$(PY) -m tests.benchmarks.drafts
	$(PY) -m tests.benchmarks.importance
	$(PY) -m tests.benchmarks.training
	$(PY) -m tests.benchmarks.disk
	$(PY) -m tests.benchmarks.families
	$(PY) -m tests.benchmarks.sweep

recorded: $(VENV)/run.stamp
	$(PY) -m model.run.recorded $(ARGS)
	$(if $(ARGS),,$(PY) -m model.train.demo.recorded)

# Use an installed Chromium or Chrome; else install Debian's (as root) or Playwright's.
browser: $(VENV)/dev.stamp
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -qq && apt-get install -y -qq chromium; \
	  else $(PY) -m playwright install chromium; fi; }

$(PY):
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.txt | $(PY)
	$(PY) -m pip install -q -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements.txt requirements-train.txt requirements-sweep.txt requirements-dev.txt | $(PY)
	$(PY) -m pip install -q -r requirements-dev.txt
	$(PY) -m pip install -q --no-deps --upgrade --target $(VENV)/oldest transformers==5.23.0  # for tests/run.py
	touch $@
