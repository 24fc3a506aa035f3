#!/usr/bin/env bash
# Compiles every kernel that training a small GPT and BERT generates for an H100, on a machine without a card.
#   tools/check-cuda-kernels.sh [FOLDER]     FOLDER keeps the downloads and the reports [target/cuda-kernels]
#   CUDA_RELEASE=13.0                        which release of NVRTC; CASES="gpt-nano:f32 ..." which models; CASE_SECONDS=2400 for each
# NVIDIA's NVRTC and headers come from PyPI (about 65 MB, once); the driver is the stand-in of runtime/tests/nvrtc, whose
# kernels do nothing. NVRTC makes PTX and, because the architecture is a real one, machine code as well, so the assembler
# has seen each kernel too. Ends with an error when a kernel is refused. $CUTPLANE names a tool built with --features cuda;
# without it the tool is built here (over 20 minutes of processor time the first time).
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
cd "$root"
folder="$(mkdir -p "${1:-target/cuda-kernels}" && cd "${1:-target/cuda-kernels}" && pwd)"
release="${CUDA_RELEASE:-13.0}"
say() { printf 'check-cuda-kernels: %s\n' "$*"; }

# 1. NVRTC and headers.
if [ ! -e "$folder/unpacked" ]; then
    say "fetching NVRTC and CUDA headers from PyPI"
    python3 -m pip download -q --no-deps --only-binary=:all: --disable-pip-version-check -d "$folder/wheels" \
        "nvidia-cuda-nvrtc==$release.*" "nvidia-cuda-runtime==$release.*" "nvidia-cuda-crt==$release.*" \
        "nvidia-cuda-cccl==$release.*"
    for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/toolkit"; done
    : >"$folder/unpacked"
fi
headers="$(dirname "$(find "$folder/toolkit" -name cuda_fp16.h | head -n 1)")"
nvrtc="$(find "$folder/toolkit" -name 'libnvrtc.so.*' | head -n 1)"
[ -n "$headers" ] && [ -n "$nvrtc" ] || { say "the packages hold no cuda_fp16.h or no libnvrtc"; exit 1; }

# 2. The stand-ins, first on the search path.
mkdir -p "$folder/lib"
cc -O1 -shared -fPIC -o "$folder/lib/libcuda.so.1" runtime/tests/nvrtc/driver.c
cc -O1 -shared -fPIC -o "$folder/lib/libnvrtc.so" runtime/tests/nvrtc/compiler.c -ldl -lpthread
ln -sf libcuda.so.1 "$folder/lib/libcuda.so"

# 3. The tool.
tool="${CUTPLANE:-}"
if [ -z "$tool" ]; then
    [ -e .build-env ] && . ./.build-env
    cargo build -p cutplane-cli --features cuda
    tool="${CARGO_TARGET_DIR:-target}/debug/cutplane"
fi

# 4. Training steps of each model and element type. Level "full" tries every candidate of every operator; lower levels first
#    measure how fast the card is, which has no end on a card that takes no time.
export LD_LIBRARY_PATH="$folder/lib:$(dirname "$nvrtc")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export CUDA_PATH="$(dirname "$headers")" REAL_NVRTC="$nvrtc" CUBECL_AUTOTUNE_LEVEL=full
"$tool" doctor --backend cuda | sed 's/^/    /'
rm -rf "$folder/reports" && mkdir -p "$folder/reports"
status=0
for case in ${CASES:-gpt-nano:f32 bert-nano:f32 gpt-nano:bf16 bert-nano:bf16}; do
    model="${case%:*}" precision="${case#*:}" name="${case/:/-}"
    plan="$folder/reports/$name.json"
    "$tool" plan "$model" --devices h100:1 --batch 4 --precision "$precision" --planner even-split --out "$plan" >/dev/null
    export FAKE_CUDA_REPORT="$folder/reports/$name.driver" NVRTC_REPORT="$folder/reports/$name.kernels"
    : >"$NVRTC_REPORT"
    if ! timeout "${CASE_SECONDS:-2400}" "$tool" run "$plan" --backend cuda --steps 2 >"$folder/reports/$name.log" 2>&1; then
        say "$model in $precision did not run: $(tail -n 1 "$folder/reports/$name.log")"
        status=1
    fi
    good="$(grep -c '^ok' "$NVRTC_REPORT" || true)" bad="$(grep -c '^failed' "$NVRTC_REPORT" || true)"
    say "$model in $precision: $good kernels compiled, $bad refused; $(cat "$FAKE_CUDA_REPORT" 2>/dev/null || echo 'no report of the driver')"
    [ "$good" -gt 0 ] && [ "$bad" -eq 0 ] || status=1
done
say "with $(cd "$folder/wheels" && echo nvidia_cuda_nvrtc*); reports in $folder/reports"
exit $status
