# make run      set up .venv, render the scenes, train the elastic supernet
# make test     set up .venv, then run the linter, the type checker and the tests
# make distill  do everything that make run does, then train a teacher and distill the supernet
# make all      run the whole pipeline, which adds a tiny decoder, quantization, export, and scores (takes hours)
# make ablations    repeat the paper's Table 1 and Fig. 3 with small networks (takes over an hour)
# make score    score the latest pre-training run
# make emoji    train and score the supernet on pictograms (OpenMoji, word vectors, a learned autoencoder)
# make emoji-distill    do everything that make emoji does, then train a teacher and distill the supernet
# make device   do everything that make distill does, then export every width of the four-step model as Core AI and
#               LiteRT bundles, and write device.png, which compares the images of the bundles with those of the run
# make docs     build the documentation site in docs/_build
#
# After setup, make run (with bf16 instructions) and make test each take 10 to 16 minutes on two cores.
# make test TESTERS=8 runs the tests in eight processes.
PYTHON ?= python3
BIN := .venv/bin
TESTERS ?= 2
export HF_HUB_OFFLINE ?= 1
export PYTHONUNBUFFERED := 1
# OpenMP threads wait in a busy loop. If two threads share a core, small operations take ten times as long.
run distill device all ablations emoji emoji-distill: export OMP_PROC_BIND ?= true
# Tests run in parallel processes, whose threads would otherwise compete for the cores.
test: export OMP_NUM_THREADS ?= 1

.PHONY: run all ablations distill device score emoji emoji-distill test test-slow fuzz fuzz-slow lint types docs bench clean

run: .venv/ready
	$(BIN)/lightning data build scenes data/scenes --if-missing
	$(BIN)/lightning run experiments/elastic_pretrain.yaml --resume

distill: .venv/ready
	$(BIN)/lightning data build scenes data/scenes --if-missing
	$(BIN)/lightning run experiments/elastic_pretrain.yaml --resume
	$(BIN)/lightning run experiments/teacher.yaml --resume
	$(BIN)/lightning run experiments/teacher_few_step.yaml --resume
	$(BIN)/lightning run experiments/knowledge_distill.yaml --resume
	$(BIN)/lightning run experiments/step_distill.yaml --resume

device: distill .venv/ready-device .venv-litert/ready
	for width in 0.375 0.5 1; do \
	  $(BIN)/lightning export experiments/export/coreai.yaml run=step_distill width=$$width out=exports/device && \
	  .venv-litert/bin/lightning export experiments/export/litert.yaml run=step_distill width=$$width \
	    precision=float16 litert.passes=0 out=exports/device || exit 1; \
	done
	$(BIN)/python -m benchmarks.device_samples step_distill exports/device/*/ --out device.png

all: .venv/ready-export
	$(BIN)/lightning run experiments/recipe.yaml

ablations: .venv/ready
	$(BIN)/lightning run experiments/ablations/recipe.yaml

score: .venv/ready
	for width in 0.375 0.5 1.0; do \
	  $(BIN)/lightning evaluate experiments/eval/held_out.yaml run=elastic_pretrain width=$$width || exit 1; \
	done

emoji: data/openmoji_latents/dataset.json
	$(BIN)/lightning run experiments/emoji/emoji_pretrain.yaml --resume
	for width in 0.375 0.5 1.0; do \
	  $(BIN)/lightning evaluate experiments/eval/pictograms.yaml run=emoji_pretrain width=$$width || exit 1; \
	done

emoji-distill: emoji
	$(BIN)/lightning run experiments/emoji/emoji_teacher.yaml --resume
	$(BIN)/lightning run experiments/emoji/emoji_teacher_few_step.yaml --resume
	$(BIN)/lightning run experiments/emoji/emoji_knowledge_distill.yaml --resume
	$(BIN)/lightning run experiments/emoji/emoji_step_distill.yaml --resume

# An interrupted encoding continues where it stopped.
data/openmoji_latents/dataset.json: | .venv/ready-emoji
	$(BIN)/lightning data build openmoji data/openmoji --train 16000 --if-missing
	$(BIN)/lightning data encode experiments/emoji/emoji_pretrain.yaml data/openmoji data/openmoji_latents --latents-only

test: .venv/ready-dev lint
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

test-slow: .venv/ready-bench
	$(BIN)/python -m pytest -m slow

# Try thousands of random and damaged inputs within minutes. fuzz-slow also runs all of the slow cases.
fuzz: .venv/ready-dev
	$(BIN)/python -m tests.fuzz

fuzz-slow: .venv/ready-dev
	$(BIN)/python -m tests.fuzz --full

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell platform datamodules evaluation sweeps experiments benchmarks tests docs *.md
	$(MAKE) types

types: .venv/ready-dev
	$(BIN)/mypy platform/pocketdit datamodules evaluation sweeps benchmarks tests docs

docs: .venv/ready-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --fresh-env docs docs/_build
	@echo "open docs/_build/index.html"

bench: .venv/ready-bench
	mkdir -p bench
	rm -f bench/*.json
	$(BIN)/python -m benchmarks.startup --json bench/startup.json
	$(BIN)/python -m benchmarks.plan_memory --json bench/plan_memory.json
	$(BIN)/python benchmarks/attention.py --json bench/attention.json
	$(BIN)/python benchmarks/forward.py --json bench/forward.json
	$(BIN)/python benchmarks/elastic_step.py --json bench/elastic_step.json
	$(BIN)/python benchmarks/training_step.py --json bench/training_step.json
	$(BIN)/python benchmarks/loader.py --json bench/loader.json
	$(BIN)/python -m benchmarks.streaming --json bench/streaming.json
	$(BIN)/python benchmarks/frechet.py --json bench/frechet.json
	$(BIN)/python benchmarks/distribution_matching.py
	$(BIN)/python -m benchmarks.tiny_decoder --json bench/tiny_decoder.json
	$(BIN)/python benchmarks/sweep_front.py
	$(BIN)/python benchmarks/sweep_engine.py --json bench/sweep_engine.json
	$(BIN)/python -m benchmarks.summary bench

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/ready-emoji: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[emoji]'
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/ready-export: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[export]'
	touch $@

.venv/ready-device: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[coreai,litert-runtime]'
	touch $@

# LiteRT's converter needs older versions of some packages than the other extras do.
.venv-litert/ready: pyproject.toml
	$(PYTHON) -m venv .venv-litert
	.venv-litert/bin/python -m pip install --quiet --editable '.[litert]'
	touch $@

.venv/ready-bench: .venv/ready-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	touch $@

clean:
	rm -rf .venv .venv-litert runs data
