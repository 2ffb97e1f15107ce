"""One service of two replicas of the embedded model, for all end-to-end tests."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.e2e.service import Service, free_port, running, write_config
from tests.support.collector import Collector, running_collector


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    config = write_config(folder / "local.yaml", free_port(), otlp_endpoint=collector.endpoint)
    with running(config) as service:
        yield service


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
