"""`mistral-serve monitor`: runs a Prometheus that scrapes a running service, until Ctrl-C."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml

from serving.cli import pidfile
from serving.cli.client import (
    BAD_OPTION,
    DEFAULT_URL,
    AdminKeyEnv,
    Url,
    bearer,
    fail,
    key_from,
    refused,
    unreachable,
)
from serving.cli.up import interrupt

_SCRAPE_INTERVAL = "2s"
_RULES = Path(__file__).parents[2] / "dashboards" / "rules"
_START_S = 30
_STOP_S = 10


def monitor(
    url: Url = DEFAULT_URL,
    admin_key_env: AdminKeyEnv = None,
    port: Annotated[
        int, typer.Option(help="Port on this machine that Prometheus listens on.")
    ] = 9090,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="Folder whose *.yaml rule files are loaded. Default: the project's, if this is "
            "its checkout.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run Prometheus on a running service until Ctrl-C, and discard its data afterwards."""
    signal.signal(signal.SIGTERM, interrupt)
    program = shutil.which("prometheus")
    if program is None:
        raise fail("there is no prometheus on this machine; install it: apt-get install prometheus")
    admin_key = key_from(admin_key_env, "--admin-key-env")
    files = rule_files(rules)
    try:
        found = httpx.get(f"{url}/-/targets", headers=bearer(admin_key), timeout=5)
    except httpx.HTTPError as error:
        raise unreachable(url, error) from None
    if not found.is_success:
        raise refused(found, admin_key_env)
    ray = pidfile.ray_metrics(httpx.URL(url).port or 80)
    try:
        with prometheus(program, config(url, files, ray, admin_key), port) as process:
            typer.echo(f"Prometheus: http://127.0.0.1:{port}\nCtrl-C stops it.")
            process.wait()
        raise fail(f"Prometheus exited with code {process.returncode}")
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def rule_files(folder: Path | None) -> list[Path]:
    """Returns the rule files of the folder, or the project's own where it is installed from its
    checkout."""
    files = sorted((folder or _RULES).glob("*.yaml"))
    if not files and folder is not None:
        raise fail(f"--rules: {folder} has no rule files: *.yaml", BAD_OPTION)
    if not files:
        typer.echo("no alerts: there are no rules here; name their folder with --rules", err=True)
    return files


def config(url: str, rules: list[Path], ray: str | None, admin_key: str | None) -> dict[str, Any]:
    """Returns Prometheus' configuration; `ray` is where Ray exports its metrics, if known."""
    discovery: dict[str, Any] = {"url": f"{url}/-/targets", "refresh_interval": _SCRAPE_INTERVAL}
    if admin_key is not None:
        # Prometheus 2.42 has no default for the type here.
        discovery["authorization"] = {"type": "Bearer", "credentials": admin_key}
    jobs: list[dict[str, Any]] = [{"job_name": "mistral-serve", "http_sd_configs": [discovery]}]
    if ray is not None:
        jobs.append(
            {
                "job_name": "ray",
                "static_configs": [{"targets": [ray], "labels": {"component": "ray"}}],
                "metric_relabel_configs": [{"regex": "otel_.*|SessionName", "action": "labeldrop"}],
            }
        )
    return {
        "global": {
            "scrape_interval": _SCRAPE_INTERVAL,
            "scrape_timeout": _SCRAPE_INTERVAL,
            "evaluation_interval": _SCRAPE_INTERVAL,
        },
        "scrape_configs": jobs,
        "rule_files": [str(file.resolve()) for file in rules],
    }


@contextlib.contextmanager
def prometheus(
    program: str, settings: dict[str, Any], port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs Prometheus, ready for queries, within the context; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="mistral-serve-monitor-") as folder:
        file, log = Path(folder, "prometheus.yaml"), Path(folder, "log")
        file.write_text(yaml.safe_dump(settings))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # this process handles Ctrl-C
            )
        try:
            wait_until_ready(process, port, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        if process.poll() is not None:
            raise fail(f"Prometheus does not start:\n{log.read_text().strip()}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=1).status_code == 200:
                return
        if time.monotonic() > deadline_s:
            raise fail(f"Prometheus is not ready within {_START_S} s:\n{log.read_text().strip()}")
        time.sleep(0.1)
