"""Tests of `mistral-serve monitor`, with a real Prometheus."""

import asyncio
import importlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from serving.cli.commands import app
from serving.tenants.authentication_config import AuthenticationConfig
from tests.support.engines import Engine
from tests.support.live_router import MODEL, LiveRouter, running_router
from tests.support.ports import free_port

# The package's attribute of that name is the command.
monitor = importlib.import_module("serving.cli.monitor")

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
MONITOR = "-c", "from serving.cli import main; main()", "monitor"
RULES = """
groups: [{name: g, rules: [{record: "a:b:c", expr: "vector(42)"}]}]
"""
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)


@asynccontextmanager
async def monitoring(
    router: LiveRouter, tmp_path: Path, *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The running command for that router, and the address of its Prometheus."""
    port = free_port()
    (tmp_path / "tmp").mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*MONITOR, "--url", router.url, "--port", str(port), *options),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {"TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        assert line == f"Prometheus: http://127.0.0.1:{port}\n"
        yield process, line.split()[1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def result(prometheus: str, query: str) -> dict[tuple[str, ...], float]:
    """The values of an instant query, by the targets' labels, as soon as there are some."""
    async with httpx.AsyncClient(base_url=prometheus) as http, asyncio.timeout(30):
        while True:
            answer = await http.get("/api/v1/query", params={"query": query})
            if series := answer.raise_for_status().json()["data"]["result"]:
                names = "component", "router", "model", "replica"
                return {
                    tuple(one["metric"][name] for name in names if name in one["metric"]): float(
                        one["value"][1]
                    )
                    for one in series
                }
            await asyncio.sleep(0.1)


@needs_prometheus
async def test_a_running_service_is_scraped_until_ctrl_c_and_nothing_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yaml").write_text(RULES)
    (tmp_path / "admin-key").write_text("the-admin-key")
    monkeypatch.setenv("ADMIN", "the-admin-key")
    settings = AuthenticationConfig(admin_key_file=str(tmp_path / "admin-key"))
    async with running_router(Engine, Engine, authentication=settings) as router:
        await router.chat(**ASK)
        options = ("--rules", str(tmp_path / "rules"), "--admin-key-env", "ADMIN")
        async with monitoring(router, tmp_path, *options) as (process, prometheus):
            up = "up == 1 and on() count(up == 1) == 3"
            assert await result(prometheus, up) == {
                ("router", "router-0"): 1,
                ("engine", MODEL, "replica-0"): 1,
                ("engine", MODEL, "replica-1"): 1,
            }
            answered = 'mistral_serve_requests_total{outcome="answered"}'
            assert await result(prometheus, answered) == {("router", "router-0", MODEL): 1}
            assert await result(prometheus, "a:b:c") == {(): 42}
            children = psutil.Process(process.pid).children(recursive=True)
            assert [child.name() for child in children] == ["prometheus"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert not [child for child in children if child.is_running()]
        assert not list((tmp_path / "tmp").iterdir())


@needs_prometheus
async def test_rules_that_prometheus_refuses_are_told(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("groups: [{name: g, rules: [{record: a, expr: 'sum('}]}]")
    async with running_router(Engine) as router:
        options = ["--url", router.url, "--port", str(free_port()), "--rules", str(tmp_path)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *MONITOR, *options, stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"Prometheus does not start" in stderr
    assert b"wrong.yaml" in stderr


def test_without_prometheus_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = CliRunner().invoke(app, ["monitor"])
    assert outcome.exit_code == 1
    assert "install it: apt-get install prometheus" in outcome.stderr


def test_a_folder_without_rules_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "prometheus")
    for folder in (tmp_path, tmp_path / "none"):
        outcome = CliRunner().invoke(app, ["monitor", "--rules", str(folder)])
        assert outcome.exit_code == 2
        assert f"--rules: {folder} has no rule files" in outcome.stderr


def test_the_projects_rules_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = Path(__file__).parents[2] / "dashboards" / "rules"
    assert monitor.rule_files(None) == sorted(rules.glob("*.yaml"))
    monkeypatch.setattr(monitor, "_RULES", tmp_path)
    assert monitor.rule_files(None) == []
    assert "no alerts" in capsys.readouterr().err


def test_without_a_service_it_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "prometheus")
    url = f"http://127.0.0.1:{free_port()}"
    outcome = CliRunner().invoke(app, ["monitor", "--url", url])
    assert outcome.exit_code == 1
    assert f"nothing answers at {url}: [Errno 111] Connection refused. Start" in outcome.stderr
