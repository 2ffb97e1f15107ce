#!/usr/bin/env bash
# Makes .venv from the locks in deploy/requirements; does nothing when it is up to date.
# PYTHON names the interpreter to use (default: python3.11, else python3).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s %s\n' "==>" "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    die "this needs Linux on x86-64 (here: $(uname -s) on $(uname -m)); use a Linux machine, virtual machine or container."

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || die "no Python found; install Python 3.11 (Debian: apt-get install python3.11-venv)."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
    die "'$python' does not run; set PYTHON to a Python 3.11 interpreter."
[ "$version" = 3.11 ] ||
    die "Python 3.11 is needed and $python is $version; install it (Debian: apt-get install python3.11-venv) or set PYTHON=/path/to/python3.11."
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python has no venv module; install it (Debian: apt-get install python3.11-venv)."
"$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
    die "vLLM's CPU kernels need libnuma.so.1, which is not installed (Debian: apt-get install libnuma1)."

locks=deploy/requirements
# The folder counts too: the scripts in .venv name it.
want=$({ pwd -P; cat $locks/*.txt $locks/*.py pyproject.toml deploy/setup.sh; } | sha256sum)
if [ -f .venv/.complete ] && [ "$(cat .venv/.complete)" = "$want" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge 6000 ] || die "6 GB of free disk are needed here and ${free_mib} MB are left; free some."

started=$SECONDS
say "making .venv with $("$python" --version) (about 3 GB, once; up to 2 minutes)"
rm -f .venv/.complete
"$python" -m venv --clear .venv
log=.venv/install.log

pip_install() { .venv/bin/python -m pip install --disable-pip-version-check --no-input -q --no-deps "$@" >>$log 2>&1; }
uv_install() {
    [ -x .venv/bin/uv ] && .venv/bin/uv pip install --python .venv/bin/python --no-deps "$@" >>$log 2>&1
}
install() {
    uv_install "$@" || { say "uv did not install this; trying pip, which takes longer"; pip_install "$@"; }
}
# Stops the script with what the log says last.
failed() {
    grep -iE '^ *(error|×|├─▶|╰─▶|cause:)' $log | tail -3 >&2
    die "$1 (details: $log); check the network and run the command again."
}

awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' $locks/dev.txt >.venv/uv.txt
if pip_install --require-hashes -r .venv/uv.txt; then
    eval "$(.venv/bin/python $locks/pip_to_uv.py)"
else
    say "pip did not install uv; going on with pip, which takes longer"
fi

torch=$(awk 'NR == 1 {print $1}' $locks/torch-cpu.txt)
say "installing $torch"
# pip's configuration may know where the CPU build is; else uv knows PyTorch's own index.
uv_install --require-hashes -r $locks/torch-cpu.txt ||
    uv_install --require-hashes --torch-backend cpu -r $locks/torch-cpu.txt ||
    pip_install --require-hashes -r $locks/torch-cpu.txt ||
    failed "$torch was found neither by pip's configuration nor on PyTorch's CPU wheel index; PIP_FIND_LINKS may name a folder that holds its wheel"

say "installing $(cat $locks/{cpu,dev}.txt | grep -c ==) locked packages"
install --require-hashes -r $locks/cpu.txt -r $locks/dev.txt ||
    failed "the packages did not install"
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp $locks/torchvision_cpu.py "$site/"
echo 'import torchvision_cpu' >"$site/torchvision_cpu.pth"
install --no-build-isolation --editable . || failed "the project itself did not install"
echo "$want" >.venv/.complete
say "ready after $((SECONDS - started)) s"
