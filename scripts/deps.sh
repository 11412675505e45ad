#!/usr/bin/env bash
# Everything inferd needs that is not in this repository.
#
#   scripts/deps.sh                 install system packages, build llama.cpp and fetch Swagger UI into the cache
#   scripts/deps.sh --dir           print the llama.cpp folder for this machine (nothing is built)
#   scripts/deps.sh --gpu-dir       print the folder of the backend that $GPU names, beside it; nothing without GPU
#   scripts/deps.sh --swagger       only fetch Swagger UI
#   scripts/deps.sh --swagger-dir   print its folder (nothing is fetched)
#   scripts/deps.sh --packages      print the system packages
#
# The cache lies outside the clone ($INFERD_CACHE, default ~/.cache/inferd) and is keyed by llama.cpp's version,
# our flags, the compiler and the CPU's features, because a native build must never move between CPUs. A second
# caller waits on the lock; an interrupted build goes on where it stopped; a finished one costs a stat.
# LLAMA_CPP_SRC=DIR builds from that source tree instead of the npm package.
#
# GPU=vulkan|cuda|hip|metal adds that backend. It is a library beside the others: built from the same source with the
# same flags, in a folder of its own, and linked in place of the registry that knows the CPU only. Nothing else is
# built twice.
set -euo pipefail

LLAMA_VERSION=0.5.0
NPM_PACKAGE=node-llama-cpp@3.22.1
NPM_SHA512=bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==
SWAGGER_PACKAGE=swagger-ui-dist@5.35.0
SWAGGER_SHA512=U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==
TARGETS=(llama llama-common mtmd llama-server llama-bench llama-batched-bench llama-quantize)
PACKAGES=(build-essential cmake ninja-build pkg-config git util-linux ca-certificates curl python3 python3-venv
    nodejs npm libuv1-dev libssl-dev libjansson-dev libcurl4-openssl-dev libsqlite3-dev libargon2-dev libwslay-dev
    libedit-dev zlib1g-dev libpq-dev libyaml-dev libgomp1)
# mesa-vulkan-drivers: a Vulkan device in software, so that the tests have a GPU on every machine.
TEST_PACKAGES=(mesa-vulkan-drivers libcmocka-dev clang libclang-rt-14-dev clang-format nginx-light wrk golang-go postgresql sslscan prometheus)

# A row a backend: its CMake option, Debian packages that building needs, libraries the program is linked with. Where a
# row has no packages, the vendor's own toolkit has to be there (CUDA: nvcc; HIP: ROCm; Metal: macOS). Only the first
# row has been run by us.
gpu_row() {
    local cuda=${CUDA_HOME:-/usr/local/cuda} rocm=${ROCM_PATH:-/opt/rocm}
    case $1 in
    vulkan) row=("-DGGML_VULKAN=ON" "glslc libvulkan-dev spirv-headers" "vulkan") ;;
    cuda) row=("-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF" "" "-L$cuda/lib64 -L$cuda/lib64/stubs cudart cublas cublasLt cuda") ;;
    hip) row=("-DGGML_HIP=ON" "" "-L$rocm/lib amdhip64 hipblas rocblas") ;;
    metal) row=("-DGGML_METAL=ON -DGGML_METAL_EMBED_LIBRARY=ON" "" "'-framework Foundation' '-framework Metal' '-framework MetalKit'") ;;
    *) die "GPU=$1 is not known; use vulkan, cuda, hip or metal" ;;
    esac
}

here=$(cd "$(dirname "$0")" && pwd)
GPU=${GPU:-}
cache=${INFERD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inferd}
CXX=${CXX:-c++}
CC=${CC:-cc}

cmake_flags=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF -DMTMD_VIDEO=OFF
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF)

[ "$(uname)" = Darwin ] && cmake_flags+=(-DGGML_METAL=OFF) # a row of its own, as everywhere

say() { printf 'deps: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

llama_dir() {
    local cpu key
    cpu=$(grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.features 2>/dev/null || uname -m)
    key=$({
        printf '%s\n' "$LLAMA_VERSION" "$NPM_SHA512" "${cmake_flags[@]}" "${LLAMA_CPP_SRC:-}" "$cpu"
        "$CXX" -dumpfullversion 2>/dev/null || true
        "$CXX" -dumpmachine 2>/dev/null || true
        cat "$here/amxfix.h"
    } | sha256sum | cut -c1-16)
    printf '%s/llama-%s-%s' "$cache" "$LLAMA_VERSION" "$key"
}

gpu_dir() {
    [ -n "$GPU" ] || return 0
    gpu_row "$GPU"
    printf '%s-%s-%s' "$(llama_dir)" "$GPU" "$({ printf '%s' "${row[*]}"; cat "$here/vulkan.sed"; } | sha256sum | cut -c1-8)"
}

# Installs whatever of the given Debian packages is missing; without root, names the command to run.
install_packages() {
    command -v dpkg-query >/dev/null || { say "not a Debian system: install the equivalents of: $*"; return 0; }
    local missing=() package
    for package in "$@"; do
        case $package in
        nodejs | npm) command -v "${package/nodejs/node}" >/dev/null && continue ;;
        golang-go) command -v go >/dev/null && continue ;;
        python3) command -v python3 >/dev/null && continue ;;
        python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null && continue ;;
        esac
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "these packages are missing; run this and call make again:"
        say "  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Fetches npm package $1 into folder $3 as a .tgz; dies unless its SHA-512 in base64 is $2.
fetch_npm() {
    local got
    (cd "$3" && npm pack --silent "$1" >/dev/null 2>npm.log) || { cat "$3/npm.log" >&2; die "npm pack $1 failed"; }
    got=$(openssl dgst -sha512 -binary "$3"/*.tgz | base64 -w0)
    [ "$got" = "$2" ] || die "$1: integrity differs: expected sha512-$2, got sha512-$got"
}

# Puts llama.cpp's source into $1: the caller's own tree, or the one that the npm package carries for local builds.
fetch_source() {
    local dir=$1 work
    if [ -n "${LLAMA_CPP_SRC:-}" ]; then
        [ -f "$LLAMA_CPP_SRC/include/llama.h" ] || die "LLAMA_CPP_SRC=$LLAMA_CPP_SRC holds no include/llama.h"
        ln -sfn "$(cd "$LLAMA_CPP_SRC" && pwd)" "$dir/src"
        return
    fi
    [ -f "$dir/src/include/llama.h" ] && return
    work=$(mktemp -d "$dir/fetch.XXXXXX")
    say "fetching llama.cpp $LLAMA_VERSION ($NPM_PACKAGE, 36 MB)"
    fetch_npm "$NPM_PACKAGE" "$NPM_SHA512" "$work"
    tar xzf "$work"/*.tgz -C "$work" package/llama/gitRelease.bundle
    git -c advice.detachedHead=false clone -q "$work/package/llama/gitRelease.bundle" "$work/src"
    rm -rf "$dir/src"
    mv "$work/src" "$dir/src"
    rm -rf "$work"
}

# Puts masked.h's function into flash attention's loop over the cells, in a source tree of our own only. The programs
# that we compare with are linked by then and stay as they were. Nothing happens where the loop reads otherwise.
quicken_attention() {
    local dir=$1 file=ggml/src/ggml-cpu/ops.cpp
    local loop='const float mv = mp ? slope\*GGML_CPU_FP16_TO_FP32(mp\[ic\]) : 0.0f;'
    git -C "$dir/src" checkout -q -- "$file"
    if [ "$(grep -c "$loop" "$dir/src/$file")" = 1 ]; then
        cp "$here/masked.h" "$dir/masked.h"
        sed -i -e "s|^\( *\)$loop|\1if (mp \&\& (ic = masked_skip(mp, ic, ic_end)) == ic_end) { break; }\n&|" \
            -e "1i #include \"$dir/masked.h\"" "$dir/src/$file"
        ninja -C "$dir/build" ggml-cpu >"$dir/masked.log" 2>&1 || { tail -30 "$dir/masked.log" >&2; die "build failed"; }
    else
        say "this llama.cpp's attention reads otherwise; it stays as it is"
    fi
    touch "$(masked_mark "$dir")"
}

masked_mark() {
    printf '%s/.masked-%s' "$1" "$(sha256sum <"$here/masked.h" | cut -c1-16)"
}

is_built() {
    [ -f "$1/.done" ] && { [ -L "$1/src" ] || [ -f "$(masked_mark "$1")" ]; }
}

build_llama() {
    local dir=$1 lock
    is_built "$dir" && return
    mkdir -p "$dir"
    exec {lock}>"$dir/.lock"
    flock -n "$lock" || { say "another build holds $dir; waiting"; flock "$lock"; }
    is_built "$dir" && return
    if [ ! -f "$dir/.done" ]; then
        compile_llama "$dir"
        touch "$dir/.done"
    fi
    [ -L "$dir/src" ] || quicken_attention "$dir"
    exec {lock}>&-
}

compile_llama() {
    local dir=$1
    rm -rf "$dir"/fetch.*
    fetch_source "$dir"
    cp "$here/amxfix.h" "$dir/amxfix.h"
    say "building llama.cpp $LLAMA_VERSION into $dir (about six minutes on two cores, once)"
    CC=$CC CXX=$CXX cmake -S "$dir/src" -B "$dir/build" "${cmake_flags[@]}" \
        -DCMAKE_CXX_FLAGS="-include $dir/amxfix.h" >"$dir/configure.log" 2>&1 || { tail -20 "$dir/configure.log" >&2; die "configure failed"; }
    local jobs
    jobs=$(nproc 2>/dev/null || echo 2)
    if [ -t 2 ]; then
        ninja -C "$dir/build" -j"$jobs" "${TARGETS[@]}" >&2 || die "build failed"
    else
        ninja -C "$dir/build" -j"$jobs" "${TARGETS[@]}" >"$dir/build.log" 2>&1 || { tail -30 "$dir/build.log" >&2; die "build failed"; }
    fi
}

# A folder of links to the common source, with what a backend needs otherwise (vulkan.sed says what and why).
gpu_source() {
    local dir=$1 base=$2 file
    rm -rf "$dir/src"
    cp -rs "$base/src/." "$dir/src"
    [ "$GPU" = vulkan ] || return 0
    for file in ggml-vulkan.cpp vulkan-shaders/vulkan-shaders-gen.cpp; do
        rm "$dir/src/ggml/src/ggml-vulkan/$file"
        sed -E -f "$here/vulkan.sed" "$base/src/ggml/src/ggml-vulkan/$file" >"$dir/src/ggml/src/ggml-vulkan/$file"
    done
}

# The backend's library and the registry that names it, for the program to be linked with; `link` lists the rest.
build_gpu() {
    local dir=$1 base=$2 lock
    [ -f "$dir/.done" ] && return
    gpu_row "$GPU"
    mkdir -p "$dir"
    exec {lock}>"$dir/.lock"
    flock -n "$lock" || { say "another build holds $dir; waiting"; flock "$lock"; }
    [ -f "$dir/.done" ] && return
    local option=${row[0]} targets=(ggml/src/libggml.a "ggml/src/ggml-$GPU/libggml-$GPU.a")
    say "building llama.cpp's $GPU backend into $dir (Vulkan: some four minutes on two cores, once)"
    gpu_source "$dir" "$base"
    # shellcheck disable=SC2086 # an option may be two
    CC=$CC CXX=$CXX cmake -S "$dir/src" -B "$dir/build" "${cmake_flags[@]}" $option -DCMAKE_OPTIMIZE_DEPENDENCIES=ON \
        -DCMAKE_CXX_FLAGS="-include $base/amxfix.h" >"$dir/configure.log" 2>&1 || { tail -20 "$dir/configure.log" >&2; die "configure failed"; }
    ninja -C "$dir/build" -j"$(nproc 2>/dev/null || echo 2)" "${targets[@]}" >"$dir/build.log" 2>&1 || { tail -30 "$dir/build.log" >&2; die "build failed"; }
    printf '%s\n' "${row[2]}" >"$dir/link"
    touch "$dir/.done"
    exec {lock}>&-
}

swagger_dir() {
    printf '%s/swagger-ui-%s' "$cache" "${SWAGGER_PACKAGE##*@}"
}

# The files of the API's page (src/api/docs). Complete once the folder is there: it gets its name last.
fetch_swagger() {
    local dir=$1 work
    [ -d "$dir" ] && return
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/swagger.XXXXXX")
    say "fetching Swagger UI ($SWAGGER_PACKAGE, 4 MB)"
    fetch_npm "$SWAGGER_PACKAGE" "$SWAGGER_SHA512" "$work"
    tar xzf "$work"/*.tgz -C "$work"
    mv -T "$work/package" "$dir" 2>/dev/null || [ -d "$dir" ] || die "$dir cannot be made"
    rm -rf "$work"
}

case ${1:-} in
--dir) llama_dir && echo ;;
--gpu-dir) gpu_dir && echo ;;
--swagger) fetch_swagger "$(swagger_dir)" ;;
--swagger-dir) swagger_dir && echo ;;
--packages) printf '%s\n' "${PACKAGES[@]}" ;;
--tests) install_packages "${PACKAGES[@]}" "${TEST_PACKAGES[@]}" ;;
'')
    install_packages "${PACKAGES[@]}"
    build_llama "$(llama_dir)"
    if [ -n "$GPU" ]; then
        gpu_row "$GPU"
        # shellcheck disable=SC2086 # a list of names
        [ -z "${row[1]}" ] || install_packages ${row[1]}
        build_gpu "$(gpu_dir)" "$(llama_dir)"
    fi
    fetch_swagger "$(swagger_dir)"
    ;;
*) die "unknown argument '$1'" ;;
esac
