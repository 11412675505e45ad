#!/usr/bin/env bash
# Runs the tests that apply to a sanitized or clang build: `scripts/sanitized.sh asan|tsan|clang`.
set -euo pipefail
cd "$(dirname "$0")/.."
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:suppressions=$PWD/tests/tsan.supp
case $1 in
asan) what='^(unit|store|fuzz|proto|fault|sys)/' ;;
tsan) what='^unit/(loop|http|worker|store|auth|instance)|^store/' ;;
clang) what='^unit/' ;;
esac
ctest --test-dir "build-$1" -R "$what" --output-on-failure -j1
