"""The script that fills the image, with a Python that only notes what it is asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    *"--torch-backend cpu"*) ;;
    *torch-cpu.txt*) [ -n "$MIRROR" ] ;;
    "-m venv "*) mkdir -p "$3/bin" "$3/site" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/uv" ;;
    *sysconfig*) echo "$FOLDER/site" ;;
esac
"""


def install(
    tmp_path: Path, accelerator: str, mirror: str = ""
) -> tuple["subprocess.CompletedProcess[str]", str]:
    """The outcome and the commands that were run; `mirror`, if any, has the CPU build of torch."""
    build, tools = tmp_path / "build", tmp_path / "tools"
    shutil.copytree(DEPLOY / "requirements", build / "requirements")
    shutil.copy(DEPLOY / "install.sh", build)
    tools.mkdir()
    (tools / "python").write_text(PYTHON)
    (tools / "python").chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    folder = str(tmp_path / "env")
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "LOG": str(log),
        "FOLDER": folder,
        "MIRROR": mirror,
    }
    result = subprocess.run(
        [build / "install.sh", accelerator, folder], env=environment, capture_output=True, text=True
    )
    return result, log.read_text()


@pytest.mark.parametrize("accelerator", ["gpu", "cpu"])
def test_the_lock_and_nothing_else_is_installed(tmp_path: Path, accelerator: str) -> None:
    result, log = install(tmp_path, accelerator)
    assert result.returncode == 0, result.stderr
    installs = [line for line in log.splitlines() if "pip install" in line]
    assert all("--no-deps" in line for line in installs)
    assert all("--require-hashes" in line for line in installs)
    assert installs[-1].endswith(f"requirements/{accelerator}.txt")
    assert "pip uninstall" in log.splitlines()[-1]


def test_a_cpu_gets_its_build_of_torch_first(tmp_path: Path) -> None:
    result, log = install(tmp_path, "cpu")
    assert result.returncode == 0, result.stderr
    assert log.index("--torch-backend cpu") < log.index("requirements/cpu.txt")
    assert "requirements/torch-cpu.txt" in log and "requirements/cpu.txt" in log
    site = tmp_path / "env/site"
    assert (site / "torchvision_cpu.pth").read_text() == "import torchvision_cpu\n"
    assert (site / "torchvision_cpu.py").exists()


def test_a_mirror_that_has_it_is_asked_alone(tmp_path: Path) -> None:
    result, log = install(tmp_path, "cpu", mirror="yes")
    assert result.returncode == 0, result.stderr
    assert "requirements/torch-cpu.txt" in log and "--torch-backend" not in log


def test_an_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    result, log = install(tmp_path, "tpu")
    assert result.returncode == 1 and "gpu or cpu, not 'tpu'" in result.stderr
    assert log == ""
