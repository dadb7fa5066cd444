# Each target does all its set-up; .venv is reused when it is there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs

.PHONY: demo test test-fast lowest test-sdist browser lint types coverage dist clean test-hosts docs

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/sfnn demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -m 'not hosts'

test-fast: $(STAMP)
	$(BIN)/python -m pytest -q -m 'not slow and not hosts'

# With the lowest versions that pyproject.toml declares, but for PyTorch's: the one of constraints.txt.
# Deprecations are not errors here: what those packages depend on is of today.
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) -m tests.lowest > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/constraints.txt torch
	$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/constraints.txt -e '.[all,dev]'
	$(VENV)-lowest/bin/python -m pytest -q -m 'not slow and not hosts' -W default::DeprecationWarning

# From the unpacked sdist.
test-sdist: $(STAMP)
	rm -rf build/sdist
	$(BIN)/python -m build --sdist --outdir build/sdist
	tar -xzf build/sdist/*.tar.gz -C build/sdist
	cd build/sdist/*/ && PYTHONPATH=. $(abspath $(BIN))/python -m pytest -q -m 'not slow and not hosts'

# As root, with Debian's iproute2, slurm-wlm and munge, and the extra 'ray': about ten minutes.
test-hosts: $(STAMP)
	$(BIN)/python -m pytest -q -m hosts -rs --durations=0 tests/hosts

# Debian's Chromium, for the tests of the page; without it they are skipped.
browser:
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

# The site, in docs/_build/html; a warning is an error. Tutorials that did not change are not run again.
docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

coverage: $(STAMP)
	$(BIN)/python -m pytest -q --cov --cov-report=term-missing

dist: $(STAMP)
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist *.egg-info docs/_build docs/api/generated
