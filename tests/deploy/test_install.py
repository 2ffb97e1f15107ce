"""The script that fills the image, with a Python that only notes what it is asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" "$3/site" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/uv" ;;
    *sysconfig*) echo "$FOLDER/site" ;;
esac
"""


def install(tmp_path: Path, accelerator: str) -> tuple["subprocess.CompletedProcess[str]", str]:
    build, tools = tmp_path / "build", tmp_path / "tools"
    shutil.copytree(DEPLOY / "requirements", build / "requirements")
    shutil.copy(DEPLOY / "install.sh", build)
    (build / "wheels").mkdir()
    (build / "wheels/mistral_serve-0.1.0-py3-none-any.whl").touch()
    tools.mkdir()
    (tools / "python").write_text(PYTHON)
    (tools / "python").chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    folder = str(tmp_path / "env")
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "LOG": str(log), "FOLDER": folder}
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
    assert all("--require-hashes" in line for line in installs[:-1])
    assert any(line.endswith(f"requirements/{accelerator}.txt") for line in installs)
    assert installs[-1].endswith("mistral_serve-0.1.0-py3-none-any.whl")
    assert "pip uninstall" in log.splitlines()[-1]


def test_a_cpu_gets_its_build_of_torch_first(tmp_path: Path) -> None:
    result, log = install(tmp_path, "cpu")
    assert result.returncode == 0, result.stderr
    assert log.index("--torch-backend cpu") < log.index("requirements/cpu.txt")
    assert "requirements/torch-cpu.txt" in log and "requirements/cpu.txt" in log
    site = tmp_path / "env/site"
    assert (site / "torchvision_cpu.pth").read_text() == "import torchvision_cpu\n"
    assert (site / "torchvision_cpu.py").exists()


def test_an_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    result, log = install(tmp_path, "tpu")
    assert result.returncode == 1 and "gpu or cpu, not 'tpu'" in result.stderr
    assert log == ""
