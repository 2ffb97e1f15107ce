#!/usr/bin/env bash
# Resolves the *.in files of this folder into the locks that everything installs.
# Needs uv (in dev.txt). `lock.sh --upgrade` moves to the newest versions allowed.
set -euo pipefail
cd "$(dirname "$0")"
uv=${UV:-uv}

lock() {
    "$uv" pip compile --quiet --no-header --no-annotate --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 "$@"
}

lock --override cpu-overrides.txt cpu.in -o cpu.txt "${@}"
sed -i 's/^torch==\([0-9.]*\)$/torch==\1+cpu/' cpu.txt
lock gpu.in -o gpu.txt "${@}"
# The CPU build of torch is not on the index that is read here; the plain version stands in for it.
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
sed 's/+cpu$//' cpu.txt >"$constraints"
lock dev.in -c "$constraints" -o dev.txt "${@}"
# dev.txt holds only what cpu.txt does not.
grep -v -x -F -f cpu.txt dev.txt >"$constraints"
cp "$constraints" dev.txt
