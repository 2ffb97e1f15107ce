#!/usr/bin/env bash
# Makes the image's Python environment of the locks in requirements/, which lies beside this script:
# install.sh gpu|cpu FOLDER.
set -euo pipefail
accelerator=$1
folder=$2
locks=$(cd "$(dirname "$0")" && pwd)/requirements

case $accelerator in gpu | cpu) ;; *)
    echo "install.sh: the accelerator is gpu or cpu, not '$accelerator'" >&2
    exit 1
    ;;
esac

python -m venv "$folder"
pip() { "$folder/bin/python" -m pip "$@" --disable-pip-version-check --no-input -q; }
install() {
    "$folder/bin/uv" pip install -q --no-cache --compile-bytecode --python "$folder/bin/python" \
        --no-deps --require-hashes "$@"
}

awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' "$locks/dev.txt" >"$folder/uv.txt"
pip install --no-cache-dir --no-deps --require-hashes -r "$folder/uv.txt"
eval "$("$folder/bin/python" "$locks/pip_to_uv.py")"

if [ "$accelerator" = cpu ]; then
    # A mirror may have the CPU build of torch; uv knows PyTorch's own index.
    install -r "$locks/torch-cpu.txt" || {
        echo "install.sh: trying PyTorch's own index" >&2
        install --torch-backend cpu -r "$locks/torch-cpu.txt"
    }
    install -r "$locks/cpu.txt"
    site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$locks/torchvision_cpu.py" "$site/"
    echo 'import torchvision_cpu' >"$site/torchvision_cpu.pth"
else
    install -r "$locks/gpu.txt"
fi
pip uninstall -y uv
rm "$folder/uv.txt"
