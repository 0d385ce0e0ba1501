# make demo, make test: see `make help`.
PYTHON ?= python3
ROS_DISTRO ?= jazzy
ROBOT ?= panda
INSTRUCTION ?= pick up the red block
export INSTRUCTION

# A sourced ROS 2 installation does not mix with the wheels in .venv.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
# Nothing that is run from here is meant for other machines in the network.
export ROS_AUTOMATIC_DISCOVERY_RANGE = LOCALHOST

# `env` is no prerequisite that make would have to time-stamp: it does nothing when all is up to date.
environment := $(PYTHON) scripts/environment.py --distro $(ROS_DISTRO)
bin := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help env models demo test fuzz lint bench docs lock clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' Makefile | column -t -s '|'
	@echo 'Variables: ROBOT=panda|fr3|widowx|ur5|ur5e  INSTRUCTION="..."  ROS_DISTRO=jazzy|kilted  PYTHON=python3'

env: ## make the environment in .venv
	@$(environment)

models: ## PyTorch, transformers and ONNX Runtime too: what OpenVLA, Octo and RT-2-style policies run on
	@$(environment) --models

demo: env ## tell a simulated robot what to do: ROBOT=widowx INSTRUCTION="put the blue block on the green plate"
	@$(bin)/vla-ros demo --robot '$(ROBOT)' --instruction "$$INSTRUCTION"

lint: ## ruff, mypy, and whether the tables in docs are up to date
	@$(environment) --test
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/python scripts/tables.py --check

# Tests of arithmetic and files share the cores; those of running nodes come after, one at a time.
test: lint ## lint, then every test
	@failed=0; \
	$(bin)/python -m pytest -m 'not live' -n $(shell nproc) --dist loadfile || failed=1; \
	$(bin)/python -m pytest -m live || failed=1; \
	exit $$failed

fuzz: lint ## the tests with new random examples, other ones every time
	FUZZ=1 $(bin)/python -m pytest

bench: ## the figures in benchmarks/results
	@$(environment) --test
	$(bin)/python benchmarks/graph.py

docs: ## the generated tables in docs/
	@$(environment)
	$(bin)/python scripts/tables.py

lock: ## pin the packages anew (needs uv)
	$(PYTHON) scripts/lock.py

clean: ## remove the environment and everything built
	rm -rf .venv .build build install log dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
