# Each target makes .venv and installs what it needs, once: a stamp file remembers which extras are in.
# PY chooses the interpreter, PIP_ARGS goes to pip (say, another index), ARGS to the program.
PY ?= python3
PIP_ARGS ?=
ARGS ?=
BIN := .venv/bin

.PHONY: help setup demo test native sanitize check bench docs clean

help:  ## say what the targets do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1	/'

.venv/.made:
	$(PY) -m venv .venv
	touch $@

# One stamp for each set of extras; a change of the requirements or of the compiled kernels renews them.
.venv/.installed-%: pyproject.toml constraints.txt $(wildcard csrc/*) | .venv/.made
	@echo "Installing smoothmax[$*] into .venv (torch: 0.2 GB where pip knows a CPU build, else several GB)"
	$(BIN)/python -m pip install -q -c constraints.txt $(PIP_ARGS) -e '.[$*]'
	touch $@

setup: .venv/.installed-dev  ## everything a developer needs

demo: .venv/.installed-cli  ## the main job: compare ways of setting the smoothness, on glyphs
	$(BIN)/smoothmax compare --out smoothmax-out $(if $(findstring --resume,$(ARGS)),,--overwrite) $(ARGS)

test: .venv/.installed-test  ## the test suite
	$(BIN)/python -m pytest -n auto $(ARGS)

native:  ## compile the kernels once more, here (an installation does it too)
	$(PY) csrc/build.py

sanitize: .venv/.installed-test  ## the kernels' tests with every access and overflow checked
	CXX=g++ $(PY) csrc/build.py --sanitize --out build/sanitized/libsmoothmax.so
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	SMOOTHMAX_BACKEND=native SMOOTHMAX_LIBRARY=build/sanitized/libsmoothmax.so \
	$(BIN)/python -m pytest tests/kernels -m "not plain" $(ARGS)

check: .venv/.installed-dev  ## format, lint, types, and the tests once more with types checked at run time
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	SMOOTHMAX_TYPE_HOOK=1 $(BIN)/python -m pytest -n auto -m "not plain and not slow" $(ARGS)

bench: .venv/.installed-dev  ## the studies behind the claims: writes into benchmarks/
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: .venv/.installed-dev  ## build the documentation into site/
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build site smoothmax-out src/smoothmax/kernels/lib
