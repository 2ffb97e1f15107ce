"""One service of two replicas of the embedded model, for all end-to-end tests, with a Prometheus
that scrapes it from its start.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.dashboards.live import Prometheus
from tests.dashboards.queries import RULES
from tests.e2e.killed_engine import KilledEngine, kill_an_engine_under_load
from tests.e2e.service import COMMAND, ROOT, Service, running, temporary_files, write_config
from tests.support.collector import Collector, running_collector
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def files_before() -> set[str]:
    """The temporary files that existed before the shared service."""
    return temporary_files()


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, files_before: set[str]
) -> Iterator[tuple[Service, Prometheus | None]]:
    """The service, and a Prometheus if one is installed."""
    folder = tmp_path_factory.mktemp("service")
    config = write_config(
        folder / "local.yaml",
        free_port(),
        otlp_endpoint=collector.endpoint,
        # The policy decides on the replicas, so that its metrics have values.
        autoscaling={"min_replicas": 2, "max_replicas": 2},
    )
    with running(config) as service, contextlib.ExitStack() as stack:
        has_prometheus = shutil.which("prometheus") is not None
        yield service, stack.enter_context(monitor(service, folder)) if has_prometheus else None


@contextlib.contextmanager
def monitor(service: Service, folder: Path) -> Iterator[Prometheus]:
    """Runs `mistral-serve monitor` on a service, with all rules evaluated every 30 s."""
    port = free_port()
    rules = folder / "rules"
    rules.mkdir()
    for file in RULES:
        (rules / file.name).write_text(file.read_text().replace("interval: 2m", "interval: 30s"))
    process = subprocess.Popen(
        [COMMAND, "monitor", "--url", service.url, "--port", str(port), "--rules", rules],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        # It is ignored where the tests run in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    begin_s = time.time()
    assert process.stdout.readline() == f"Prometheus: http://127.0.0.1:{port}\n"
    try:
        yield Prometheus(f"http://127.0.0.1:{port}", begin_s)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture(scope="session")
def service(shared: tuple[Service, Prometheus | None]) -> Service:
    return shared[0]


@pytest.fixture(scope="session")
def monitored(shared: tuple[Service, Prometheus | None]) -> Prometheus:
    """The Prometheus that `mistral-serve monitor` started on the shared service."""
    if shared[1] is None:
        pytest.skip("needs prometheus: apt-get install prometheus")
    return shared[1]


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[openai.OpenAI]:
    """The `openai` client as the model cards set it up, without retries that hide errors."""
    with openai.OpenAI(
        api_key="EMPTY", base_url=f"{service.url}/v1", max_retries=0, timeout=120
    ) as client:
        yield client


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        yield http


@pytest.fixture(scope="session")
def killed_engine(service: Service) -> KilledEngine:
    """The clients' answers around the kill of a replica's vLLM process, once for all tests."""
    return kill_an_engine_under_load(service)
