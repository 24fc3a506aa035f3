#!/usr/bin/env bash
# Finds cmake and libclang, which the build of the HiGHS solver needs, and installs what is missing: with apt-get where
# that is allowed, else with pip into the private environment .venv-build. Says what it does; does nothing twice.
# Writes .build-env, which the Makefile reads before it calls cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'bootstrap: %s\n' "$*"; }

find_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ] && ls "$LIBCLANG_PATH"/libclang*.so* "$LIBCLANG_PATH"/libclang.dylib >/dev/null 2>&1; then
        return 0
    fi
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib64/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/libclang.so*' >/dev/null ||
        [ -e /Library/Developer/CommandLineTools/usr/lib/libclang.dylib ]
}

try_apt() {
    command -v apt-get >/dev/null || return 1
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    say "installing $* with apt-get"
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

try_pip() {
    command -v python3 >/dev/null || return 1
    say "installing cmake and libclang with pip into .venv-build"
    python3 -m venv .venv-build && .venv-build/bin/pip install -q cmake libclang || return 1
    local clang headers
    clang=$(echo "$PWD"/.venv-build/lib/python3*/site-packages/clang/native)
    headers=$(gcc -print-file-name=include 2>/dev/null || true)
    {
        printf 'export PATH="%s/.venv-build/bin:$PATH"\n' "$PWD"
        printf 'export LIBCLANG_PATH="%s"\n' "$clang"
        [ -n "$headers" ] && printf 'export BINDGEN_EXTRA_CLANG_ARGS="-I%s"\n' "$headers"
    } >.build-env
}

command -v cargo >/dev/null || { say "cargo is missing: install Rust from https://rustup.rs and try again"; exit 1; }
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
    { say "a C++ compiler is missing: install g++ or clang and try again"; exit 1; }

[ -e .build-env ] || : >.build-env
. ./.build-env
missing=()
command -v cmake >/dev/null || missing+=(cmake)
find_libclang || missing+=(libclang-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

say "missing: ${missing[*]}"
if ! try_apt "${missing[@]}"; then
    try_pip || { say "cannot install ${missing[*]}: install cmake and libclang by hand (or set LIBCLANG_PATH) and try again"; exit 1; }
fi
. ./.build-env
command -v cmake >/dev/null && find_libclang || { say "cmake or libclang is still not found"; exit 1; }
say "cmake and libclang are ready"
