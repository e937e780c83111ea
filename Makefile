# demo: restore sample scans through the real queue.  test: all tests.  check: what CI runs before them.
# bench: the measurements of docs/benchmarks.md that need no services.
# chaos: everything goes wrong for two thousand photos, ten minutes.  Fails when one isn't accounted for.
# services: Valkey, PostgreSQL, SeaweedFS, dispatch, a worker and Flower from wheels.  Needs python3.11+ with venv, make and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Small pictures and several processes: more threads would only wait for each other.
TEST_THREADS := OMP_NUM_THREADS=1
# Two processes, a file of tests whole in one, for half of the time is waiting; folder by folder, for
# the last are the short ones.  The faults have the machine to themselves: what they may cost is counted.
TEST_SPREAD := --numprocesses 2 --dist loadfile --no-loadscope-reorder
FACES ?= ../shared/faces_train

.PHONY: demo test check services format evaluate bench chaos clean

demo: $(STAMP)
	$(BIN)/python -m demo

test: $(STAMP)
	$(TEST_THREADS) $(BIN)/python -m pytest $(TEST_SPREAD) --ignore tests/faults
	$(TEST_THREADS) $(BIN)/python -m pytest tests/faults

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST_THREADS) $(BIN)/coverage run -m pytest tests/unit tests/golden
	$(BIN)/coverage report

services: $(STAMP)
	$(BIN)/python -m deploy.services up --dir .services

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Identity is measured with dlib's network; without it the rest is.  Fails when a criterion is missed.
evaluate: $(STAMP)
	@$(BIN)/python -m pip show --quiet face_recognition_models 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]' || \
		echo 'face_recognition_models could not be installed: identity will not be measured.'
	$(BIN)/python -m gpen_engine.compact.evaluate $(FACES)

# Takes about ten minutes, and wants the machine to itself.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# CHAOS="--seed 7" has the same night again, --photos, --faults and --workers another one.
chaos: $(STAMP)
	$(TEST_THREADS) $(BIN)/python -m benchmarks.chaos $(CHAOS)

clean:
	rm -rf $(VENV) .demo .services

$(STAMP): pyproject.toml constraints.txt requirements-nodeps.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,monitor,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.txt
	touch $(STAMP)
