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
pip() { "$folder/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir "$@"; }

if [ "$accelerator" = cpu ]; then
    # The CPU build of torch is on PyTorch's own index, which uv knows.
    pip install -q --no-deps "$(grep '^uv==' "$locks/dev.txt")"
    "$folder/bin/uv" pip install -q --no-cache --python "$folder/bin/python" --no-deps \
        --torch-backend cpu "$(grep '^torch==' "$locks/cpu.txt")"
    pip uninstall -q -y uv
fi
pip install --no-deps --progress-bar off -r "$locks/$accelerator.txt"
if [ "$accelerator" = cpu ]; then
    site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$locks/torchvision_cpu.py" "$site/"
    echo 'import torchvision_cpu' >"$site/torchvision_cpu.pth"
fi
pip install -q --no-deps "$here"/wheels/*.whl
