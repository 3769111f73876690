# Two commands: `make demo` runs the main job, `make test` runs the tests. Both set everything up by themselves.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
WORK ?= demo
PHOTOS ?=

.PHONY: demo test test-jax lint bench clean

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The newcomer's install: what the demo needs, and no more.
$(VENV)/.demo: setup.py pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[index]"
	touch $@

$(VENV)/.dev: setup.py pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[all,dev]"
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	bin=$(BIN) work="$(WORK)" photos="$(PHOTOS)" sh ./demo.sh

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest --cov --cov-fail-under=95

test-jax: $(VENV)/.dev
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m backend

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	for file in $(filter-out bench/__init__.py bench/photos.py,$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

clean:
	rm -rf $(VENV) $(WORK) build *.egg-info
