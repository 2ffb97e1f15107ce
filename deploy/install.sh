#!/usr/bin/env bash
# Makes the image's Python environment: install.sh gpu|cpu FOLDER.
# Beside it lie requirements/ with the locks and wheels/ with this package.
set -euo pipefail
accelerator=$1
folder=$2
here=$(cd "$(dirname "$0")" && pwd)
locks=$here/requirements

case $accelerator in gpu | cpu) ;; *)
    echo "install.sh: the accelerator is gpu or cpu, not '$accelerator'" >&2
    exit 1
    ;;
esac

python -m venv "$folder"
pip() { "$folder/bin/python" -m pip "$@" --disable-pip-version-check --no-input -q; }
install() {
    "$folder/bin/uv" pip install -q --no-cache --compile-bytecode --python "$folder/bin/python" \
        --no-deps "$@"
}

awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' "$locks/dev.txt" >"$folder/uv.txt"
pip install --no-cache-dir --no-deps --require-hashes -r "$folder/uv.txt"
eval "$("$folder/bin/python" "$locks/pip_to_uv.py")"

if [ "$accelerator" = cpu ]; then
    # The CPU build of torch is on PyTorch's own index, which uv knows.
    install --require-hashes --torch-backend cpu -r "$locks/torch-cpu.txt"
    install --require-hashes -r "$locks/cpu.txt"
    site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$locks/torchvision_cpu.py" "$site/"
    echo 'import torchvision_cpu' >"$site/torchvision_cpu.pth"
else
    install --require-hashes -r "$locks/gpu.txt"
fi
install "$here"/wheels/*.whl
pip uninstall -y uv
rm "$folder/uv.txt"
