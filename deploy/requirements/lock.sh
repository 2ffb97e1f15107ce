#!/usr/bin/env bash
# Resolves the *.in files of this folder into the locks, with the hash of every file. Versions stay
# as they are where the *.in files allow it; `lock.sh --upgrade` moves to the newest allowed.
# UV names the uv to use (default: the one in PATH).
set -euo pipefail
cd "$(dirname "$0")"
export UV_INDEX_STRATEGY=unsafe-best-match

lock() {
    "${UV:-uv}" pip compile --quiet --no-header --no-annotate --generate-hashes \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
}
lock_cpu() { lock --override cpu-overrides.txt --no-emit-package torch "$@"; }
except() { sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package=\1/p' "$1"; }

# torch's CPU build is on PyTorch's own index, which is asked only when the version changes.
torch=$(grep '^torch==' cpu-overrides.txt)+cpu
grep -q -F "$torch " torch-cpu.txt ||
    lock --torch-backend cpu --no-deps --output-file torch-cpu.txt - <<<"$torch"

# A machine without a GPU has torch-cpu.txt, tiny.txt, cpu.txt and dev.txt, which share no package.
whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
cat tiny.txt cpu.txt >"$whole"
lock_cpu cpu.in --output-file "$whole" "$@"
lock_cpu tiny.in --constraints "$whole" --output-file tiny.txt
mapfile -t in_tiny < <(except tiny.txt)
lock_cpu cpu.in --constraints "$whole" "${in_tiny[@]}" --output-file cpu.txt
mapfile -t in_whole < <(except "$whole")
lock dev.in --constraints "$whole" "${in_whole[@]}" --output-file dev.txt "$@"
lock gpu.in --output-file gpu.txt "$@"
