#!/usr/bin/env bash
# All tests, from a fresh clone: packages, llama.cpp, models and SDKs into the cache, a release build for everything,
# a sanitized build for the parsers' corpora and the units. Ends with ctest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh --tests
scripts/deps.sh
INFERD_MODELS=$(scripts/models.sh)
INFERD_TOML_TEST=$(scripts/toml_test.sh)
export INFERD_MODELS INFERD_TOML_TEST
scripts/sdk.sh --install
llama=$(scripts/deps.sh --dir)
GPU=vulkan scripts/deps.sh

build() { # preset [target...]
    local preset=$1 folder=build
    shift
    [ "$preset" = release ] || folder=build-$preset
    mkdir -p "$folder"
    cmake --preset "$preset" -DINFERD_LLAMA_DIR="$llama" >"$folder/configure.log" 2>&1 || { cat "$folder/configure.log"; exit 1; }
    cmake --build "$folder" ${1:+--target "$@"} >"$folder/build.log" 2>&1 || { grep -E 'error|warning|FAILED' "$folder/build.log" | head -40; exit 1; }
}

echo "== building (gcc, release)"
build release
echo "== building (gcc, address and undefined behaviour)"
build asan
echo "== building (gcc, threads)"
build tsan
echo "== building (clang)"
build clang

# The tests need its program alone; Mesa's software device stands in for the GPU.
echo "== building (gcc, release, Vulkan)"
mkdir -p build-vulkan
cmake --preset release -B build-vulkan -DINFERD_LLAMA_DIR="$llama" -DINFERD_GPU=vulkan \
    -DINFERD_GPU_DIR="$(GPU=vulkan scripts/deps.sh --gpu-dir)" >build-vulkan/configure.log 2>&1 || { cat build-vulkan/configure.log; exit 1; }
cmake --build build-vulkan --target inferd >build-vulkan/build.log 2>&1 || { grep -E 'error|warning|FAILED' build-vulkan/build.log | head -40; exit 1; }

export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/tests/tsan.supp"
# One list of tests: the release build's, with the sanitized ones registered beside them (tests/scripts.cmake).
exec ctest --test-dir build --output-on-failure -j1
