# Everything a newcomer needs: `make demo` and `make test`. Each sets up what it needs in .venv first.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
PORT ?= 8866
SERVE ?= 1
# What whole epochs are measured on by `make bench`.
RECIPE ?= phantom2d
DATA ?= $(DEMO)/phantom
# What the views are measured in by `make bench-views`.
BROWSER ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
# How many tests run at a time.
JOBS ?= 2
# Address of PyTorch's index of CPU wheels (docs/install.md); without it Linux gets the larger CUDA build.
TORCH_INDEX ?=

BIN := $(VENV)/bin
# A machine without an NVIDIA GPU gets the torch release whose CPU build the tests run on.
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,--constraint constraints.txt)
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Some machines forbid Python to keep what it has compiled (container images do); each start would then take ten
# seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak lowest audit bench bench-views lint format clean

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(VENV)/.ready ## Create the environment in .venv

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Sauron needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
# Python compiles what is used when it is used, and keeps it; all of it in advance would take longer than to install it.
	$(BIN)/pip install --quiet --no-compile $(CONSTRAINTS) $(INDEX) --editable '.[viz,dev]'
# nnU-Net's networks, which the tests cut; what they depend on would replace torch.
	$(BIN)/pip install --quiet --no-deps 'dynamic-network-architectures>=0.4,<0.5'
	@touch $@

demo: setup ## Train on a phantom, prune on the way, open the dashboard (SERVE=0 stops before)
	@rm -rf $(DEMO)/phantom $(DEMO)/runs/sauron
	$(BIN)/sauron-train phantom $(DEMO)/phantom
	$(BIN)/sauron-train run --recipe phantom2d --data $(DEMO)/phantom --out $(DEMO)/runs/sauron
ifneq ($(SERVE),0)
	$(BIN)/sauron-viz serve $(DEMO)/runs --port $(PORT)
endif

test: setup lint ## Check style and types, run all tests (JOBS=1: one after the other)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

soak: setup ## Run the long tests, which `make test` leaves out, and the fuzzers with inputs that are new each time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m hypothesis --hypothesis-profile anew
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m soak --timeout 0

lowest: setup ## Run the tests with the oldest versions that pyproject.toml allows (torch as elsewhere)
	$(BIN)/pip install --quiet 'uv>=0.8'
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
		$(CONSTRAINTS) $(INDEX) --editable '.[viz,dev]'
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest/bin/python --no-deps 'dynamic-network-architectures>=0.4,<0.5'
# What old versions warn of has been mended in newer ones.
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n $(JOBS) --dist worksteal -W default

audit: setup ## Look for known vulnerabilities in all that is installed
	$(BIN)/pip install --quiet 'pip-audit>=2.7'
	$(BIN)/pip-audit --skip-editable

bench: setup ## Measure again what docs/performance.md says (some forty minutes on two cores)
	@test -d $(DEMO)/phantom || $(BIN)/sauron-train phantom $(DEMO)/phantom
	$(BIN)/python benchmarks/step.py --threads 1
	$(BIN)/python benchmarks/step.py --threads 2
	$(BIN)/python benchmarks/epoch.py --recipe $(RECIPE) --data $(DATA) --threads 1
	$(BIN)/python benchmarks/width_stair.py
	$(BIN)/python benchmarks/growth.py

bench-views: setup ## Measure the views in a browser (some twenty minutes; BROWSER=path of Chromium)
	@test -n "$(BROWSER)" || { echo "No Chromium found; name it with: make bench-views BROWSER=/path/to/chromium"; exit 2; }
	$(BIN)/pip install --quiet 'mfusepy>=3,<4'
	$(BIN)/python benchmarks/dashboard_in_browser.py $(BROWSER)
	$(BIN)/python benchmarks/explorer_in_browser.py $(BROWSER)
	$(BIN)/python benchmarks/views_at_scale.py $(BROWSER)

lint: setup ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and the demo
	rm -rf $(VENV) $(VENV)-lowest demo
