# Every target sets up what it needs in .venv; nothing is installed outside.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GLTF_VALIDATOR := $(VENV)/gltf-validator/node_modules/gltf-validator

.PHONY: venv demo toy test test-all lint clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "mdtdist needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

demo: $(STAMP)
	$(BIN)/mdtdist demo --images examples --out out/demo --model mini

toy: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python recipes/toy/run.py --out docs/results

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" tests

test-all: $(STAMP) lint $(GLTF_VALIDATOR)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[usdz,ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests

# The Khronos validator, where npm is; its tests say so and are skipped elsewhere.
$(GLTF_VALIDATOR): $(STAMP)
	@npm install --silent --no-fund --no-audit --prefix $(VENV)/gltf-validator gltf-validator@2.0.0-dev.3.10 || \
		echo "no npm, or no registry: the glTF validator tests will be skipped"

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf out build *.egg-info src/*.egg-info
