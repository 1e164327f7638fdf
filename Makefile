# Every target makes its own environment first: `make test` or `make demo` may be the first command.
SUITABLE = $(shell $(1) -c 'import sys; sys.version_info >= (3, 11) and print("$(1)")' 2>/dev/null)
PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,\
	$(call SUITABLE,$(python))) python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# A ComfyUI to test in, with its own environment in .venv (or name its Python: COMFYUI_PYTHON=...).
COMFYUI ?=
DATA ?=
ARGS ?=
# One process per core, one thread each: more threads only wait for one another. Where a mode
# asks for two, they sleep while they wait: spinning took 4 to 8 times as long beside other work.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
# Compiling torch takes longer than importing it: keep the bytecode, even where the shell says no.
unexport PYTHONDONTWRITEBYTECODE
HEADLESS := -n auto --dist worksteal -m "not comfyui and not browser and not gpu and not cluster" \
	$(addprefix --ignore=tests/,browser cluster comfyui)
# What another processor or number of threads could change: tests against recorded figures, or against
# limits on what networks give.
NUMERIC := $(addprefix tests/,damage faces finetune image prior quality restore \
	runtime/test_precision.py test_parity.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-portable test-modes coverage test-comfyui test-gpu test-cluster screenshots lint format bench weights clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(READY) ## create .venv with everything that development needs

$(READY): pyproject.toml constraints-dev.txt .ci/make_venv.py
	$(PYTHON) .ci/make_venv.py $(VENV)
	$(BIN)/python -m uv pip install --python $(BIN)/python --constraint constraints-dev.txt \
		--requirements pyproject.toml --extra dev --compile-bytecode
	@touch $@

demo: $(READY) ## restore damaged photographs and show them: output/demo.png
	$(BIN)/python -m samples.demo

test: $(READY) ## run the tests that need no ComfyUI, browser or accelerator (ARGS="-k align")
	$(BIN)/python -m pytest $(HEADLESS) $(ARGS)

test-portable: $(READY) ## run the numeric tests again without vector instructions, as another processor would
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest $(HEADLESS) $(NUMERIC) $(ARGS)

test-modes: $(READY) ## run the numeric tests in six modes: three levels of vector instructions, one thread and two
	@for threads in 1 2; do for level in default avx2 ""; do \
		echo "== vector instructions: $${level:-all}, threads: $$threads"; \
		env -u ATEN_CPU_CAPABILITY OMP_NUM_THREADS=$$threads $${level:+ATEN_CPU_CAPABILITY=$$level} \
			$(BIN)/python -m pytest -q $(HEADLESS) $(NUMERIC) $(ARGS) || exit 1; \
	done; done

coverage: $(READY) ## the same as test, with a report of the lines that no test ran
	$(BIN)/python -m pytest $(HEADLESS) --cov $(ARGS)

test-gpu: $(READY) ## run the tests and benchmarks that need an accelerator; without one they are skipped
	$(BIN)/python -m pytest -rs -m gpu $(ARGS)
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		$(BIN)/python -m benchmarks.accelerator && \
		$(BIN)/python -m benchmarks.finetuning --quick --device cuda --precisions bfloat16 float16; \
	else echo "The benchmarks are skipped: there is no GPU that torch can use."; fi

test-cluster: $(READY) ## run the tests that start a Ray cluster and an object store on this machine
	$(BIN)/python -m pytest -rs -m cluster $(ARGS)

test-comfyui: $(READY) ## run the tests in a real ComfyUI and a browser (COMFYUI=/path/to/ComfyUI)
	COMFYUI="$(COMFYUI)" $(BIN)/python -m pytest -rs -m "comfyui or browser" $(ARGS)

screenshots: $(READY) ## draw the pictures of README and help pages again (COMFYUI=/path)
	$(BIN)/python -m samples.pictures
	$(BIN)/python -m samples.icon
	COMFYUI="$(COMFYUI)" $(BIN)/python -m samples.screenshots $(ARGS)

lint: $(READY) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY) ## bring the code into the common style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## measure speed and memory against others, in 5 minutes (compare commits: python -m benchmarks.compare)
	$(BIN)/python -m benchmarks.speed $(ARGS)

weights: $(READY) ## train the embedded weights again, in a day (DATA=/path ARGS=--smoke: in minutes)
	@test -d "$(DATA)" || { echo "Name the data folder: make weights DATA=/path"; exit 2; }
	$(BIN)/python -m recipes "$(DATA)" $(ARGS)

clean: ## remove what the other targets made, except .venv
	rm -rf output .pytest_cache .ruff_cache .coverage htmlcov
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
