# Two commands do everything, set-up included: `make run` and `make test`.
# System packages are installed with apt when we may, else named: see setup/system-packages.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SYNCED := $(VENV)/.synced
ARGS   ?=

.PHONY: run test check update format lock setup test-hardware bench gpu-report clean

run: $(SYNCED)
	@$(BIN)/kube-gpu-exporter --backend auto $(ARGS)

test: $(SYNCED)
	@setup/system-packages promtool:prometheus
	$(BIN)/pytest -n auto $(ARGS)

# What a reviewer would otherwise have to look for by eye.
check: $(SYNCED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m setup.generate --check

# Rewrites every generated file: docs/metrics.md, docs/configuration.md, gRPC stubs, goldens.
update: $(SYNCED)
	$(BIN)/python -m setup.generate
	$(BIN)/pytest -q tests/test_golden.py --update-golden

format: $(SYNCED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests for whoever has an NVIDIA GPU; `make test` leaves them out.
test-hardware: $(SYNCED)
	$(BIN)/pytest tests/hardware -m hardware $(ARGS)

# Scrapes and memory at full size, on the simulated node.
bench: $(SYNCED)
	$(BIN)/python -m bench.scrape $(ARGS)

# All that a machine with a GPU is asked, written into the folder REPORT.
REPORT ?= gpu-report
gpu-report: $(SYNCED)
	$(BIN)/python -m bench.gpu_report $(REPORT)

UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml
lock: $(SYNCED)
	$(UV_COMPILE) --upgrade --output-file setup/requirements.txt
	$(UV_COMPILE) --upgrade --group dev --output-file setup/requirements-dev.txt

setup: $(SYNCED)

$(SYNCED): setup/requirements-dev.txt pyproject.toml setup/venv
	@setup/venv $(PYTHON) $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
