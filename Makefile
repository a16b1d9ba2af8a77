# hmpc_ros without a ROS installation: every target sets up what it needs in a virtual environment.
# On a machine with ROS 2, `colcon build` needs none of this.

# The wheels' distribution. Taken from the command line only (make test ROS_DISTRO=jazzy): a sourced
# ROS exports a ROS_DISTRO of its own, and that is another installation.
ifneq ($(origin ROS_DISTRO),command line)
ROS_DISTRO := kilted
endif
PYTHON ?= python3
VENV := .venv$(if $(filter-out kilted,$(ROS_DISTRO)),-$(ROS_DISTRO))
BIN := $(VENV)/bin

# More arguments for the command or for pytest: make demo ARGS='--iterations 40', make test ARGS='-k plant'
ARGS ?=

# Nothing of a sourced ROS or of another active environment may reach ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV LD_LIBRARY_PATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH
unexport RMW_IMPLEMENTATION ROS_VERSION ROS_PYTHON_VERSION _ROS_WHEELS_BOOTSTRAP_COMPLETE
export ROS_DISTRO

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-paper test test-long test-browser test-crazyflow lint bench soak px4-sitl px4-msgs figures study docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## make or renew the virtual environment (the other targets do it by themselves)
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --ros-distro $(ROS_DISTRO)

demo: setup ## a vehicle that is too heavy flies an eight over ROS 2, learns, flies again; build/demo
	@$(BIN)/hmpc demo --out build/demo $(ARGS)

demo-paper: setup ## the reference experiment in short: fly, learn over ROS 2, fly again; build/demo-paper
	@$(BIN)/hmpc demo --config demo_paper --out build/demo-paper $(ARGS)

# Each worker has a ROS domain and folders of its own; the tests of a file stay together, as they share nodes.
test: lint ## lint, then every test that is not long, on all cores (ARGS='-n 0': in one process)
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-long: setup ## the tests that take minutes
	@$(BIN)/python -m pytest -m long $(ARGS)

# Beside .venv and reading from it, so that only what crazyflow needs is there twice. The ROS wheels
# look for their libraries below sys.prefix.
CRAZYFLOW := $(VENV)-crazyflow
$(CRAZYFLOW)/ready: requirements/crazyflow.txt $(VENV)/hmpc_setup.json
	@echo 'Setting up $(CRAZYFLOW); once, a minute or two and 1.2 GB'
	@$(BIN)/python -m venv --clear $(CRAZYFLOW)
	@echo 'import os, site, sys; os.environ.setdefault("SCIPY_ARRAY_API", "1"); own = sys.prefix;' \
	    'sys.prefix = "$(abspath $(VENV))"; [site.addsitedir(p) for p in site.getsitepackages([sys.prefix])];' \
	    'sys.prefix = own' > $$(echo $(CRAZYFLOW)/lib/python*/site-packages)/hmpc_ros_base.pth
	@$(CRAZYFLOW)/bin/python -m pip install -qq --disable-pip-version-check -r requirements/crazyflow.txt \
	    -c requirements/base.txt -c requirements/casadi.txt -c requirements/constraints-python.txt
	@touch $@

test-crazyflow: setup ## install crazyflow (1.2 GB) in an environment of its own, and fly with it
	@$(MAKE) --no-print-directory $(CRAZYFLOW)/ready
	@$(CRAZYFLOW)/bin/python -m pytest -m crazyflow $(ARGS)

test-browser: setup ## the live page in a real browser; pictures in build/screenshots
	@$(BIN)/python -m pytest -m browser test/browser $(ARGS)

lint: setup ## ruff (style, docstrings, imports) and mypy (types)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy

bench: setup ## measure solve times, steps per second and latency; table and build/bench.json
	@$(BIN)/python benchmarks/bench.py --out build $(ARGS)

soak: setup ## fly and learn for MINUTES=30 under kills, floods and damaged messages; build/soak/soak.json
	@PYTHONPATH=test $(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),30) --out build/soak $(ARGS)

px4-sitl: setup ## fly PX4's simulated quadcopter: PX4_BINARY=.../bin/px4, AGENT=.../MicroXRCEAgent
	@PYTHONPATH=test $(BIN)/python benchmarks/px4_sitl.py --binary '$(PX4_BINARY)' \
		--agent '$(AGENT)' --out build/px4-sitl $(ARGS)

px4-msgs: setup ## build px4_msgs for the wheels: PX4=.../PX4-Autopilot; then source build/px4-msgs/env.sh
	@PYTHONPATH=test $(BIN)/python benchmarks/px4_messages.py --sources '$(PX4)' --out build/px4-msgs

figures: setup ## reproduce the paper's experiment and draw its figures in build/figures
	@$(BIN)/hmpc reproduce --out build/figures $(ARGS)

study: setup ## how wrong may the model be? the reduced study, within an hour on two cores; build/study
	@$(BIN)/hmpc study mismatch --levels 5 --seeds 0-2 --flights 30 --jobs 2 --out build/study $(ARGS)

docs: setup ## build the documentation into build/docs; a warning is an error
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements/docs.txt
	@$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs $(ARGS)
	@echo 'documentation: build/docs/index.html'

clean: ## remove the virtual environments and everything that was built
	rm -rf .venv .venv-* .venv.lock build install log *.egg-info
	find hmpc_ros benchmarks test tools launch -name __pycache__ -type d -prune -exec rm -rf {} +
