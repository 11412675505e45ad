# The two that matter: `make run` and `make test`. `make help` lists the rest. GPU=vulkan, cuda, hip or metal builds the
# same program with that backend, in a folder of its own.
SHELL := /bin/bash
CC ?= cc
GPU ?=
export GPU
LLAMA = $(shell scripts/deps.sh --dir)
LLAMA_GPU = $(shell GPU=$(GPU) scripts/deps.sh --gpu-dir)
RELEASE = build$(if $(GPU),-$(GPU))
BUILD = cmake --preset $(1) -B $(3) -DINFERD_LLAMA_DIR=$(LLAMA) $(2) >$(3)/configure.log 2>&1 || { cat $(3)/configure.log; exit 1; }

.PHONY: all deps models run test check asan tsan clang fuzz bench bench-instances bench-api bench-engine fmt lint analyze clean help

all: deps ## build build/inferd; with GPU=vulkan|cuda|hip|metal build-$GPU/inferd
	@mkdir -p $(RELEASE)
	@$(call BUILD,release,-DINFERD_GPU=$(GPU) -DINFERD_GPU_DIR=$(LLAMA_GPU),$(RELEASE))
	@cmake --build $(RELEASE) $(if $(GPU),--target inferd)

deps: ## system packages and llama.cpp, into a cache outside this folder
	@scripts/deps.sh

models: ## two small real models for the demo and the tests, into the cache
	@scripts/models.sh

run: all ## everything on a fresh machine: install, build, fetch a model, serve, ask it one question
	@BUILD=$(RELEASE) scripts/run.sh

test: ## all tests
	@scripts/test.sh

asan tsan clang: deps ## build and run the tests that apply under sanitizers, or build with clang
	@mkdir -p build-$@
	@$(call BUILD,$@,,build-$@)
	@cmake --build build-$@
	@scripts/sanitized.sh $@

fuzz: deps ## build the fuzzers and run each for FUZZ_SECONDS (default 30)
	@mkdir -p build-fuzz
	@$(call BUILD,fuzz,,build-fuzz)
	@cmake --build build-fuzz --target fuzzers
	@scripts/fuzz.sh

bench: all ## gateway against nginx, worker against llama-server: ratios of one run
	@bench/run.sh

bench-instances: all ## named instances: requests through them, keys, starts, turns, kills
	@bench/instances.sh

bench-api: all ## TLS beside nginx, keys and limits, WebSockets beside event streams
	@python3 bench/api.py build

bench-engine: all ## the worker beside llama.cpp: streams, shared prefixes, long prompts, swapped models, two users
	@bench/run.sh engine

fmt: ## format the tree
	@clang-format -i $$(git ls-files 'src/*.[ch]' 'src/*.cpp' 'tests/*.[ch]' 'bench/*.[ch]')

analyze: ## clang's static analyzer over the tree
	@scripts/analyze.sh

lint: ## include arrows, formatting of what is staged, shell syntax
	@python3 tests/arrows.py
	@for script in scripts/*.sh bench/*.sh; do bash -n $$script || exit 1; done

clean: ## remove build folders (the cache stays)
	@rm -rf build build-*

help: ## this list
	@grep -hE '^[a-z ]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20
