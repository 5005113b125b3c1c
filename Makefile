# Two commands matter: `make demo` searches γ* for examples/llama-small.json, `make test` tests.
# Both set up .venv first, from constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
BUDGET ?= 14cpu-min
TARGET ?= examples/llama-small.json
STUDY ?= demo
STORAGE ?= sqlite:///critical.db

.PHONY: demo test soak check setup format clean

demo: .venv/installed
	$(BIN)/critical search --budget $(BUDGET) --target $(TARGET) --study $(STUDY) --storage $(STORAGE)
	$(BIN)/critical export $(STUDY) --to hf --config $(TARGET) --output llama-gamma.json --storage $(STORAGE)
	$(BIN)/critical report $(STUDY) --output report.html --storage $(STORAGE)
	@echo "Now open report.html, or run: $(BIN)/critical dashboard --storage $(STORAGE)"

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

soak: .venv/installed-dev
	CRITICAL_SOAK_KILLS=50 $(BIN)/python -m pytest -s tests/critical/running/test_kills.py tests/acceptance/test_kills.py

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: .venv/installed-dev

# Debian keeps ensurepip in a package of its own: get it where that can be done without asking.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Critical needs Python 3.11 or newer: make PYTHON=python3.11 demo"; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) has no venv: installing Debian's python3-venv"; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); \
	  $$SUDO apt-get update -q && $$SUDO apt-get install -qy python3-venv && $(PYTHON) -m venv .venv; } \
	  || { rm -rf .venv; echo "install python3-venv (apt-get install python3-venv), then run make again"; exit 2; }

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv critical-work critical.db* report.html llama-gamma.json build *.egg-info
