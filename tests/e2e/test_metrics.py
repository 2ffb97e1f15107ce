"""The targets and metrics of a running service, with real Ray Serve and vLLM."""

import re

import httpx

from tests.e2e.service import MODEL, Service
from tests.support.waiting import wait_for


def test_routers_and_engines_are_found_and_each_is_scraped_where_it_is(
    http: httpx.Client, service: Service
) -> None:
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    answer = http.post("/v1/chat/completions", json=ask)
    assert answer.status_code == 200
    found = http.get("/-/targets").json()
    addresses = {target["targets"][0]: target["labels"] for target in found}
    engines = {
        replica["address"]: {"component": "engine", "model": MODEL, "replica": replica["replica"]}
        for replica in service.replicas()
    }
    assert {a: labels for a, labels in addresses.items() if a in engines} == engines
    ((router, labels),) = [item for item in addresses.items() if item[0] not in engines]
    assert labels["component"] == "router"
    assert router != service.url.removeprefix("http://")

    def answered() -> re.Match[str] | None:
        text = httpx.get(f"http://{router}/metrics", timeout=60).text
        name = r"mistral_serve_time_to_first_token_seconds_count"
        return re.search(rf'^{name}{{model="{MODEL}"}} [1-9]', text, re.MULTILINE)

    wait_for(answered, 5, "the router has counted the stream")
    for address in engines:
        text = httpx.get(f"http://{address}/metrics", timeout=60).text
        assert f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}}' in text
        assert f'mistral_serve_loop_stops_total{{model_name="{MODEL}"}}' in text


def test_ray_has_the_metrics_of_the_replicas(service: Service) -> None:
    """The pidfile names the address from which `monitor` scrapes them."""
    from serving.cli import pidfile

    address = pidfile.ray_metrics(int(service.url.rsplit(":", 1)[1]))
    assert address is not None
    wait_for(
        lambda: (
            "ray_serve_deployment_replica_healthy"
            in httpx.get(f"http://{address}/metrics", timeout=60).text
        ),
        60,
        "Ray exports Serve's metrics",
    )
