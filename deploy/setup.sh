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

locks=deploy/requirements
# The folder counts too: the scripts in .venv name it.
want=$({ pwd -P; cat $locks/cpu.txt $locks/dev.txt $locks/torchvision_cpu.py pyproject.toml deploy/setup.sh; } | sha256sum)
if [ -f .venv/.complete ] && [ "$(cat .venv/.complete)" = "$want" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge 6000 ] || die "6 GB of free disk are needed here and ${free_mib} MB are left; free some."

started=$SECONDS
say "making .venv with $("$python" --version) (about 3 GB, once; 2 to 4 minutes)"
rm -f .venv/.complete
"$python" -m venv --clear .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }

torch=$(grep '^torch==' $locks/cpu.txt)
say "installing $torch"
if ! pip install -qq --no-deps "$torch" 2>/dev/null; then
    # The +cpu build is not on the general index; uv knows where PyTorch keeps it.
    say "pip does not find it; asking PyTorch's own index for it"
    pip install -qq --no-deps "$(grep '^uv==' $locks/dev.txt)"
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --torch-backend cpu "$torch" ||
        die "$torch was found neither by pip nor on PyTorch's CPU wheel index; check the network, or set PIP_FIND_LINKS to a folder that holds its wheel."
fi
count=$(cat $locks/cpu.txt $locks/dev.txt | grep -c ==)
say "installing $count locked packages"
pip install --no-deps --progress-bar off -r $locks/cpu.txt -r $locks/dev.txt 2>&1 | tee .venv/install.log |
    awk -v count="$count" '
        /^(Collecting|Processing)/ { if (++n % 20 == 0) print "    fetched " n " of " count }
        /^Installing collected/ { print "    fetched all, unpacking (about half a minute)" }
        /^ERROR/ { print }
        { fflush() }' >&2 ||
    die "the packages did not install (details: .venv/install.log); check the network and run the command again."
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp $locks/torchvision_cpu.py "$site/"
echo 'import torchvision_cpu' >"$site/torchvision_cpu.pth"
pip install -qq --no-deps --no-build-isolation --editable .
echo "$want" >.venv/.complete
say "ready after $((SECONDS - started)) s"
