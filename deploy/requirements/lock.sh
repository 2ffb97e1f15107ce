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

# A machine without a GPU has torch-cpu.txt, cpu.txt and dev.txt, which share no package.
lock_cpu cpu.in --output-file cpu.txt "$@"
mapfile -t in_cpu < <(except cpu.txt)
lock dev.in --constraints cpu.txt "${in_cpu[@]}" --output-file dev.txt "$@"
lock gpu.in --output-file gpu.txt "$@"
# Environments of their own: they share nothing with the service but Python.
lock llama_cpp.in --output-file llama_cpp.txt "$@"
lock clients.in --output-file clients.txt "$@"
