# Two commands: `make demo` runs the main job, `make test` runs the tests. Both set everything up by themselves.
PYTHON ?= python3.11
VENV ?= .venv
ADDONS ?= .venv-addons
MILVUS ?= .venv-milvus
BIN = $(VENV)/bin
# With byte code, as pip does by default: where Python may not write it (PYTHONDONTWRITEBYTECODE), each process that
# imports Keras would spend 12 s of CPU instead of 4.
INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python
WORK ?= demo
# A test keeps one core busy, so that files of tests run side by side; each process takes up to 3 GB.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile
PHOTOS ?=

PORT ?= 8000

.PHONY: demo stop viewer docs docs-serve test test-tensorflow coverage test-jax test-kernels test-addons test-milvus lint bench bench-evaluation bench-index clean

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The newcomer's install: what the demo needs, and no more.
$(VENV)/.demo: setup.py pyproject.toml | $(BIN)/uv
	$(INSTALL) $(BIN)/python -e ".[index,serving,sfm]"
	touch $@

$(VENV)/.dev: setup.py pyproject.toml | $(BIN)/uv
	$(INSTALL) $(BIN)/python -e ".[all,dev]"
	touch $@ $(VENV)/.demo

# Photos (synthetic unless PHOTOS=folder names some), 3D models and training tuples of them, a network that is fine-tuned on
# the tuples, an index, a page of what it finds. Where folders in the collection are objects, the mAP over them is printed
# before and after; where they are something else, such as years, it is said why not. Nothing else looks at the names of
# folders. A random network finds no pairs to match, so that visual
# words stand in for it, and learns at a higher rate from more tuples: it is smaller, too, and trains fastest in float32. At the end a server answers from
# behind, on free ports and apart from the terminal, until `make stop` or the next demo.
demo: $(VENV)/.demo stop
	@set -eu; run=$(BIN)/keras-retrieval; work="$(WORK)"; photos="$(PHOTOS)"; \
	export TF_CPP_MIN_LOG_LEVEL=3; mkdir -p "$$work"; \
	if [ -z "$$photos" ]; then photos="$$work/photos"; $$run sample-photos "$$photos"; fi; \
	score=$$(find "$$photos" -mindepth 1 -maxdepth 1 -type d | head -n 1 | sed 's/.*/--score/'); \
	search() { \
		$$run extract "$$1" "$$photos" "$$work/descriptors" --size 362 --replace; \
		$$run index "$$work/descriptors" "$$work/index" --replace; \
		if [ -n "$$score" ] && $$run search "$$work/index" "$$photos" --score --html "$$work/page.html"; then return; fi; \
		[ -z "$$score" ] || echo "So no mAP is printed."; score=; \
		$$run search "$$work/index" "$$photos" --html "$$work/page.html" > "$$work/neighbours.txt"; \
		tail -n 1 "$$work/neighbours.txt"; }; \
	[ -f "$$work/pretrained.keras" ] || $$run build vgg16_gem "$$work/pretrained.keras" || { \
		echo "No pretrained weights: going on with a random AlexNet. With a network connection, make demo"; \
		echo "downloads VGG16's ImageNet weights."; \
		$$run build alexnet_gem "$$work/random.keras" --weights none; }; \
	model="$$work/pretrained.keras"; pairs=retrieval; rate=1e-6; queries=25; precision=auto; \
	[ -f "$$model" ] || { model="$$work/random.keras"; pairs=vocabulary-tree; rate=1e-4; queries=100; \
		precision=float32; }; \
	$$run reconstruct "$$photos" "$$work/models" --model "$$model" --pairs $$pairs --size 1024; \
	echo "== Before training"; search "$$model"; \
	if $$run tuples "$$work/models" "$$work/tuples.npz" --photos "$$photos"; then \
		rm -rf "$$work/run"; \
		$$run train "$$work/tuples.npz" --photos "$$photos" --model "$$model" --output "$$work/run" --lr $$rate \
			--epochs 2 --queries $$queries --size 224 --test-size 362 --scales 1 --precision $$precision; \
		echo "== After training"; search "$$work/run/model.keras"; \
		echo "page of the training: $$work/run/page.html"; \
		model="$$work/run/model.keras"; \
	else echo "No tuples, so nothing to train on: the search is not changed."; fi; \
	echo "page of the clusters: $$work/models/index.html"; \
	echo "== Serving"; rm -rf "$$work/serving"; \
	$$run export-saved-model "$$model" "$$work/serving/retrieval" --size 362; \
	setsid nohup $$run serve "$$work/serving" --index "$$work/index" --photos "$$photos" --port 0 --rest-port 0 \
		--file-system-poll-wait-seconds 0 > "$$work/server.log" 2>&1 < /dev/null & \
	echo $$! > "$$work/server.pid"; \
	until grep -q "^page: " "$$work/server.log"; do \
		kill -0 $$! 2> /dev/null || { cat "$$work/server.log"; exit 1; }; sleep 0.2; done; \
	address=$$(sed -n 's/.*gRPC at \([^,]*\),.*/\1/p' "$$work/server.log"); \
	photo="$$photos/$$($(BIN)/python -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline()))' \
		"$$work/descriptors/names.txt")"; \
	$$run query "$$photo" --server "$$address" -k 5 > "$$work/query.txt"; cat "$$work/query.txt"; \
	awk 'NR == 2 { print "the served network describes that photo as its index does: cosine " $$1; exit $$1 < 0.999 }' \
		"$$work/query.txt"; \
	echo "$$(grep "^page: " "$$work/server.log")  (\`make stop\` ends it)"

# Ends the demo's server; a number that has become another process' is left alone.
stop:
	@if [ -f "$(WORK)/server.pid" ]; then \
		pid=$$(cat "$(WORK)/server.pid"); rm -f "$(WORK)/server.pid"; \
		if tr '\0' ' ' < /proc/$$pid/cmdline 2> /dev/null | grep -q "keras-retrieval serve"; then \
			kill $$pid; timeout 40 tail --pid=$$pid -f /dev/null || kill -9 $$pid; echo "the demo's server has ended"; \
		fi; \
	fi

test: lint test-tensorflow

test-tensorflow: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL)

# The share of keras_retrieval/ that its tests run. Apart from `make test`, which tracing would make a fifth slower.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-fail-under=99 tests/keras_retrieval tests/pipelines/networks

# Tests compile many small programs once each: less optimization makes them a fifth faster.
XLA_FAST_COMPILE = --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true

# The test files with a marker: collecting the others imports what these do not need.
marked = $$(grep -rlF mark.$(1) tests --include="test_*.py")

test-jax: $(VENV)/.dev
	KERAS_BACKEND=jax XLA_FLAGS="$(XLA_FAST_COMPILE)" $(BIN)/python -m pytest $(PARALLEL) -m backend $(call marked,backend)

# The kernels that TensorFlow takes on processors without AVX-512.
test-kernels: $(VENV)/.dev
	TF_ENABLE_ONEDNN_OPTS=0 $(BIN)/python -m pytest $(PARALLEL) -m kernels $(call marked,kernels)

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

# A real Milvus server, in an environment of its own since it is only run, never imported.
$(MILVUS)/.ready: tests/export/milvus_index/server_requirements.txt | $(BIN)/uv
	rm -rf $(MILVUS)
	$(BIN)/uv venv --quiet --python $(PYTHON) $(MILVUS)
	$(INSTALL) $(MILVUS)/bin/python -r $<
	touch $@

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
	for file in $(filter-out bench/__init__.py bench/photos.py bench/made_photos.py bench/large_database.py bench/purity.py $(INDEX),$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

bench-evaluation: $(VENV)/.dev
	$(BIN)/python -m bench.evaluation

bench-index: $(VENV)/.bench
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m bench.index --sizes $(SIZES) --work $(BENCH_WORK) --plot docs/index-curves.png

clean: stop
	rm -rf $(VENV) $(ADDONS) $(MILVUS) $(WORK) build docs/_build docs/reference/commands docs/reference/commands.md *.egg-info
