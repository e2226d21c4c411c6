# Two commands do everything, set-up included: `make run` and `make test`.
# System packages are installed with apt when we may, else named: see setup/system-packages.

# A Python 3.11 or newer, by name or path; empty: the first that is found. See setup/python.
PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

# What `make run` needs is in the environment, and what all else needs.
RUNTIME := $(VENV)/.runtime
SYNCED  := $(VENV)/.synced
# Made anew where its Python is gone, was upgraded, or is not the one that PYTHON names.
$(shell setup/venv --works $(VENV) $(PYTHON) || rm -f $(RUNTIME))

# The Debian packages of the servers that `make demo` and the tests run.
SERVERS := prometheus,promtool:prometheus amtool,prometheus-alertmanager:prometheus-alertmanager

SCRIPTS := setup/python setup/venv setup/system-packages daemonset/image/try .ci/run

# What only a release needs runs from an environment of its own.
RELEASE_TOOLS = $(BIN)/uv run --quiet --no-project --isolated --with-requirements setup/requirements-release.txt

# Grafana's own types, for the dashboards' tests.
SCHEMA       := tests/dashboards/schema
SCHEMA_READY := $(SCHEMA)/node_modules/.package-lock.json

.PHONY: run demo pictures test check audit update format lock setup test-hardware test-cluster fuzz bench \
	gpu-report image release clean

run: $(RUNTIME)
	@$(BIN)/python -m exporter --backend auto $(ARGS)

# The alerts, from a simulated node to the messages that people would get.
demo: $(RUNTIME)
	@setup/system-packages $(SERVERS)
	@$(BIN)/python -m setup.demo $(ARGS)

# The pictures in docs/dashboards.md, of simulated nodes that Prometheus watches: three minutes.
pictures: $(SYNCED)
	@setup/system-packages $(SERVERS)
	$(BIN)/python -m setup.demo.pictures

test: $(SYNCED) $(SCHEMA_READY)
	@setup/system-packages $(SERVERS) openssl:openssl bwrap:bubblewrap
	@$(BIN)/python -m setup.cluster_tools
	$(BIN)/pytest -n auto $(ARGS)

# What a reviewer would otherwise have to look for by eye.
check: $(SYNCED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m setup.generate --check
	$(BIN)/shellcheck $(SCRIPTS)
	@$(BIN)/python -m setup.go_tools
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/actionlint
	$(BIN)/zizmor --quiet --offline --no-progress --persona pedantic .github

# Known vulnerabilities in what the program is built of and runs with. Asks the package index.
audit: $(SYNCED)
	$(RELEASE_TOOLS) pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r setup/requirements.txt -r setup/requirements-build.txt

# Rewrites every generated file: references, gRPC stubs, rules, dashboards, the chart's parts, goldens.
update: $(SYNCED)
	$(BIN)/python -m setup.generate
	$(BIN)/pytest -q tests/exporter/metrics/test_golden.py --update-golden

format: $(SYNCED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests for whoever has an NVIDIA GPU; `make test` leaves them out.
test-hardware: $(SYNCED)
	$(BIN)/pytest tests/hardware -m hardware $(ARGS)

# A real Kubernetes on this machine, in namespaces of its own, and the exporter on it. Takes root and
# Go, and minutes: the first time 15, to build Kubernetes. KEEP=1 lets the cluster stay for a look.
test-cluster: $(SYNCED)
	@$(BIN)/python -m tests.cluster.machine tests/cluster -m cluster $(ARGS)

# A million inputs for each parser of what others write, on one core: an hour or two.
fuzz: $(SYNCED)
	nice $(BIN)/python -m tests.fuzz $(ARGS)

# Scrapes and memory at full size, on the simulated node.
bench: $(SYNCED)
	$(BIN)/python -m bench.scrape $(ARGS)

# All that a machine with a GPU is asked, written into the folder REPORT.
REPORT ?= gpu-report
gpu-report: $(SYNCED)
	$(BIN)/python -m bench.gpu_report $(REPORT)

# The image, with buildah, and whether it runs: minutes. BASE is its base, by default made of packages;
# OUT a file to keep the image in, for `docker load` and the like.
image:
	OUT="$(OUT)" daemonset/image/try $(BASE)

# What the release TAG publishes beside the image, in dist/; OUTPUTS is where its values are written.
OUTPUTS ?= /dev/stdout
release: $(SYNCED)
	rm -rf dist build/release
	$(BIN)/python -m setup.release "$(TAG)" dist/notes.md >>"$(OUTPUTS)"
	@$(BIN)/python -m setup.cluster_tools
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/helm package --destination dist daemonset/chart
	$(BIN)/uv venv --quiet build/release
	$(BIN)/uv pip install --quiet --python build/release --require-hashes -r setup/requirements.txt
	$(BIN)/uv pip install --quiet --python build/release --no-deps dist/*.whl
	$(RELEASE_TOOLS) cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file "dist/kube-gpu-exporter-$(TAG:v%=%).cdx.json" build/release/bin/python

UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: $(SYNCED)
	$(UV_COMPILE) --upgrade --output-file setup/requirements.txt pyproject.toml
	$(UV_COMPILE) --upgrade --group dev --constraint setup/requirements.txt \
		--output-file setup/requirements-dev.txt pyproject.toml
	printf 'pip-audit\ncyclonedx-bom\n' | $(UV_COMPILE) --upgrade --output-file setup/requirements-release.txt -
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(UV_COMPILE) --upgrade --constraint setup/requirements-dev.txt --output-file setup/requirements-build.txt -

setup: $(SYNCED)

$(SCHEMA_READY): $(SCHEMA)/package-lock.json | $(SYNCED)
	@setup/system-packages node:nodejs npm:npm
	@$(BIN)/python -m setup.step "installing Grafana's types" \
		npm ci --prefix $(SCHEMA) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(RUNTIME): setup/requirements.txt setup/venv
	@setup/venv $(VENV) $(PYTHON)
	@$(BIN)/python -m setup.packages setup/requirements.txt
	@touch $@

$(SYNCED): setup/requirements-dev.txt pyproject.toml $(RUNTIME)
	@$(BIN)/python -m setup.packages setup/requirements-dev.txt --editable
	@touch $@

clean:
	rm -rf $(VENV) $(SCHEMA)/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
