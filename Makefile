.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo imagenet fashion-mnist stability hardening test test-slow faults lint types format benchmark clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.venv/bin/python:
	@echo "Making a virtual environment in .venv"
	@$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "Installing the auditor and what the demo needs (1 to 3 minutes)"
	@$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "Installing the auditor and its development tools (1 to 3 minutes)"
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ .venv/.demo

demo: .venv/.demo ## Train a small network on real digits, audit it, write a PDF
	@$(BIN)/python examples/mnist.py demo-input
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/mnist.sh demo-input demo-run

imagenet: .venv/.demo ## Audit EfficientNet-Lite0 on photographs (half an hour)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/imagenet.sh imagenet-input imagenet-run

test: .venv/.dev ## Run the tests
	@echo "Running the tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal

test-slow: .venv/.dev ## Run the tests that take minutes
	@$(BIN)/python -m pytest -q -m slow

faults: .venv/.dev ## Kill audits, fill disks, lose workers and damage files, for half an hour
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults --long -m "slow or not slow"

lint: .venv/.dev ## Check style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.dev ## Check types
	@$(BIN)/mypy

format: .venv/.dev ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

benchmark: .venv/.dev ## Compare the attack with the published rule
	@$(BIN)/python benchmarks/attacks.py --quick

fashion-mnist: ## Fetch Fashion-MNIST from its Debian package, without root
	@mkdir -p fashion-mnist
	@cd fashion-mnist && { test -d usr || apt-get download dataset-fashion-mnist; }
	@cd fashion-mnist && { test -d usr || dpkg -x dataset-fashion-mnist_*.deb .; }

stability: .venv/.demo fashion-mnist ## Train networks anew and print the tables of retraining randomness
	@$(BIN)/python experiments/stability_fidelity.py --quick

hardening: .venv/.demo fashion-mnist ## Train networks by each recipe and print the tables of S2 and S3
	@$(BIN)/python experiments/hardening.py --cache hardening-cache

clean: ## Remove the virtual environment and the demo's results
	rm -rf .venv demo-input demo-run imagenet-input imagenet-run fashion-mnist stability-fidelity hardening-cache
