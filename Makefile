# make run   environment, pinned dependencies, then the whole workbook (profile laptop)
# make test  the same environment with the test tools, then every test
# make release  train on permissively licensed data and replace the guard inside the package (made with a mirror)
# make readme  write the results of the finished run into README.md
# make clean  remove caches;  make distclean  also every run in artifacts/ and the environment
# ARGS goes to the command:  make run ARGS="--profile smoke --only 05"   make test ARGS="-m 'not slow'"
# Another interpreter:       make run PYTHON=/path/to/python3.12

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
RIGHT_PYTHON := import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))

.DEFAULT_GOAL := run
.PHONY: run test release lab readme install install-test clean distclean

run: install
	$(BIN)/python run_all.py $(ARGS)

# Two processes of one thread each, one file of tests at a time: as many as two cores and 6 GB carry (threads that
# outnumber the cores wait for each other, six times as long). One process: make test ARGS="-n 0".
test: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

release: install
	$(BIN)/python run_all.py --profile release --release $(ARGS)

lab: install
	$(BIN)/python -m jupyterlab notebooks $(ARGS)

readme: install
	$(BIN)/python -m guardlib.report.readme $(ARGS)

install: $(VENV)/.installed-lab
install-test: $(VENV)/.installed-test

$(VENV)/.made:
	@for python in "$(PYTHON)" python3.12 python3.11; do \
	  if "$$python" -c '$(RIGHT_PYTHON)' 2>/dev/null; then \
	    "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	    echo "make: '$$python -m venv $(VENV)' failed; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; \
	  fi; \
	done; \
	echo "make: '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1); expected Python 3.11 or 3.12; run: make run PYTHON=/path/to/python3.12" >&2; exit 1

$(VENV)/.installed-lab: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) -e '.[lab]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) -e '.[lab,test]'
	@touch $@ $(VENV)/.installed-lab

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find guardlib tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf artifacts $(VENV) *.egg-info
