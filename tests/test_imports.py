"""The allowed imports. Pure packages take state and time as arguments, so that the live router, the
simulator and the tests run the same code."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVING = Path(__file__).parents[1] / "serving"
PURE = (
    *("dispatch", "placement", "scaling", "poison", "tenants"),
    *("mistral", "requests", "answers", "encoders", "ledger"),
)
IO = "aiohttp asyncio h11 http httptools httpx requests socket threading time urllib3 uvloop"
SERVERS = "fastapi ray starlette torch uvicorn vllm"
IMPURE = frozenset(f"{IO} {SERVERS}".split())
OF_PURE = frozenset(f"serving.{module}" for module in (*PURE, "decay", "section"))
"""What pure packages import of this project: each other, and two equally pure modules."""
ROOMS = ("batches", "ledger", "peers", "proxy", "replicas", "responses", "telemetry")


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, "imports from other packages are absolute"
            if node.level == 0:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, packages: frozenset[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


@pytest.mark.parametrize("package", PURE)
def test_a_pure_package_imports_no_deployment_and_does_no_io(package: str) -> None:
    files = sorted((SERVING / package).rglob("*.py"))
    assert files
    for file in files:
        for module in imported(file.read_text()):
            where = f"{file.relative_to(SERVING)} imports {module}"
            assert not is_within(module, IMPURE), where
            if module.startswith("serving"):
                assert is_within(module, OF_PURE), where


@pytest.mark.parametrize("package", PURE)
def test_nothing_that_a_pure_package_loads_is_a_deployment(package: str) -> None:
    """Indirect imports count as well. `asyncio` may be loaded by another library."""
    code = f"import sys, serving.{package}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for module in loaded.stdout.decode().split():
        assert not is_within(module, frozenset({"ray", "vllm", "fastapi", "httpx", "aiohttp"}))
        assert not module.startswith("serving.") or is_within(module, OF_PURE), module


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("router", ("serving.engine", "vllm")),
        ("engine", ("serving.router",)),
        ("simulator", ("serving.router", "serving.engine", "ray", "vllm")),
        ("planner", ("serving.router", "serving.engine", "ray", "vllm")),
        ("batch", ("serving.router", "serving.engine", "serving.dispatch", "serving.config")),
        ("conformance", ("serving.router", "serving.engine", "serving.dispatch", "serving.config")),
        ("deploy", ("vllm",)),
        ("router/http", tuple(f"serving.router.{room}" for room in ROOMS)),
        (
            "router/responses",
            tuple(f"serving.router.{room}" for room in ROOMS if room != "responses"),
        ),
        (
            "router/batches",
            tuple(f"serving.router.{room}" for room in ROOMS if room != "batches"),
        ),
        *((f"router/{room}", ("serving.router.proxy",)) for room in ROOMS if room != "proxy"),
    ],
)
def test_a_package_imports_none_of_these(package: str, forbidden: tuple[str, ...]) -> None:
    files = sorted((SERVING / package).rglob("*.py"))
    assert files
    for file in files:
        for module in imported(file.read_text()):
            where = f"{file.relative_to(SERVING)} imports {module}"
            assert not is_within(module, frozenset(forbidden)), where


def loaded_by(*arguments: str) -> set[str]:
    """Returns the modules that `mistral-serve` with these arguments has loaded at its end."""
    code = """
import sys, typer.testing, serving.cli.commands
assert typer.testing.CliRunner().invoke(serving.cli.commands.app, sys.argv[1:]).exit_code == 0
print(*sys.modules)
"""
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, check=True, capture_output=True).stdout.decode().split())


def test_a_batch_without_a_service_loads_no_ray_and_sets_the_environment_before_vllm() -> None:
    loaded = loaded_by("--help")  # of every command
    assert {"serving.offline", "serving.cli.up"} <= loaded
    assert not {"ray", "vllm", "torch"} & loaded


def test_a_command_loads_no_other() -> None:
    loaded = loaded_by("status", "--help")
    assert "serving.cli.status" in loaded
    assert not {"serving.cli.up", "serving.cli.batch", "numpy"} & loaded


def test_one_package_imports_vllm_and_nothing_imports_the_commands() -> None:
    for file in sorted(SERVING.rglob("*.py")):
        path = file.relative_to(SERVING).as_posix()
        for module in imported(file.read_text()):
            if not path.startswith("engine/vllm/"):
                assert not is_within(module, frozenset({"vllm"})), path
            if not path.startswith("cli/"):
                assert not is_within(module, frozenset({"serving.cli"})), path


def test_admission_placement_and_their_messages_have_one_home() -> None:
    """Whatever runs requests does so through the dispatcher, and knows nothing of its parts."""
    inner = frozenset(
        f"serving.dispatch.{file.stem}"
        for file in (SERVING / "dispatch").glob("*.py")
        if file.stem != "__init__"
    )
    for package in ("router", "simulator"):
        for file in sorted((SERVING / package).rglob("*.py")):
            for module in imported(file.read_text()):
                assert not is_within(module, inner), f"{file.name} imports {module}"
                assert not module.startswith("serving.placement.fleet"), file.name
