# make demo: a virtual environment with the base install, and a sketch of a freely licensed portrait.
# make test: everything a change must pass.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test bench clean

demo: $(VENV)/base.stamp
	$(BIN)/silverpoint sketch examples/portrait.jpg -o demo-out/portrait-sketch.png --overwrite
	@echo "open demo-out/portrait-sketch.png"

test: $(VENV)/dev.stamp
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/pytest -n 2

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/synthesis.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# torch is pinned: pip takes a build of that version without CUDA (2.13.0+cpu) where a configured index or folder of wheels
# has one. The Python package index alone has none for Linux: there it is the build with CUDA, gigabytes larger.
$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/base.stamp

clean:
	rm -rf $(VENV) demo-out
