# make run    makes the environment, installs, opens the app
# make test   installs what tests need, the browser too, and runs all of them
# make bench  runs ten measurements: against transformers, what a visitor waits for, attention, drafts, training, disk
# make recorded  remakes the run that the first screen shows
PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=
PORT ?= 8501
MODEL ?= mini-v3
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test lint bench recorded browser

run: $(VENV)/run.stamp
	$(PY) -m streamlit run app.py --server.port $(PORT)

# The browser's tests come last and one by one: they measure what a visitor waits for.
test: lint browser
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist worksteal --ignore tests/browser
	$(PY) -m pytest tests/browser

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

recorded: $(VENV)/run.stamp
	$(PY) -m model.run.recorded $(MODEL)

# An installed Chromium or Chrome serves; otherwise Debian's for root, otherwise Playwright's own.
browser: $(VENV)/dev.stamp
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -qq && apt-get install -y -qq chromium; \
	  else $(PY) -m playwright install chromium; fi; }

$(PY):
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

$(VENV)/run.stamp: requirements.txt | $(PY)
	$(PY) -m pip install -q -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements.txt requirements-shard.txt requirements-train.txt requirements-dev.txt | $(PY)
	$(PY) -m pip install -q -r requirements-dev.txt
	touch $@
