# Two commands do everything on a fresh machine with Rust and a C/C++ compiler:
#   make demo   build, then plan, predict, run and compare a GPT on this machine's cores
#   make test   build, then run all tests
# Both share one optimised profile, so that Burn and HiGHS are built once (about 13 minutes on two cores).

SHELL := /bin/bash
, := ,
ENV := . ./.build-env &&
# NCCL is opened at run time, so it is always built in (its tests use a stand-in); ranks in processes are where an MPI is.
# Everything below is one build with the same features.
FEATURES := --features cutplane-cli/nccl$(,)cutplane-runtime/nccl$(if $(shell command -v mpicc),$(,)cutplane-cli/mpi$(,)cutplane-runtime/mpi)
TOOL := $(or $(CARGO_TARGET_DIR),target)/debug/cutplane

.PHONY: demo demo-small compare-twins compare-pytorch experiments experiments-check test build bootstrap lint

demo: build
	$(TOOL) compare gpt-mini --devices cpu:2 --batch 16 --seq 128 --steps 3 --fresh-profile --out out/demo

demo-small: build
	$(TOOL) compare gpt-nano --devices cpu:2 --batch 8 --steps 3 --out out/demo-small

# GPT, BERT, LSTM and ResNet twins under plans of every kind, predicted and measured: a dated record and its errors.
compare-twins: build
	tools/compare_twins.py --tool $(TOOL) --out out/compare-twins

# Step time against PyTorch on the same cores; PYTHON names a Python that has torch.
compare-pytorch: build
	tools/compare_pytorch.py --tool $(TOOL) --python $(or $(PYTHON),python3) --out out/compare-pytorch

# Every experiment: predicted, recorded, judged, drawn, told in docs/experiments.md.
experiments: build
	$(TOOL) experiments run
	$(TOOL) experiments page

experiments-check: build
	$(TOOL) experiments check

test: bootstrap
	$(ENV) cargo test --workspace $(FEATURES) --quiet

build: bootstrap
	$(ENV) cargo build --workspace $(FEATURES) --bins

bootstrap:
	@scripts/bootstrap.sh

lint: bootstrap
	$(ENV) cargo fmt --all -- --check
	$(ENV) cargo clippy --workspace $(FEATURES) --all-targets -- -D warnings
	$(ENV) RUSTDOCFLAGS="-D warnings" cargo doc --workspace $(FEATURES) --no-deps
