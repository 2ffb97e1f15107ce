"""Serves the embedded model on a Ray cluster of two nodes, both on this machine: first tensor
parallel, then pipeline parallel. Prints a JSON line for each: the nodes of the replica's bundles
and the answer to a prompt. (vLLM 0.32 cannot have both at once across nodes on CPUs: it counts one
CPU worker to a node.)

Run by test_parallel.py, in a process of its own so that its Ray stays apart.
"""

import json
import logging
import sys
import time
from typing import Any

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from serving import app
from serving.config import AppConfig

_START_TIMEOUT_S = 300

SHAPES: list[dict[str, Any]] = [
    {"tensor_parallel_size": 2},
    # vLLM 0.32 on a CPU sets up pipeline stages only while compiling.
    {"pipeline_parallel_size": 2, "vllm_args": {"enforce-eager": False}},
]


def main(port: int, prompt: str) -> None:
    node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * 1024 * 1024}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "include_dashboard": False},
    )
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        serve.start(proxy_location="Disabled")
        for shape in SHAPES:
            target = serve.RunTarget(app.build(config(port, shape)), app.NAME, None)
            serve.run_many([target], wait_for_applications_running=False)
            wait_until_running()
            print(json.dumps({"nodes": stage_nodes(), "answer": ask(port, prompt)}), flush=True)
            serve.delete(app.NAME)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def config(port: int, shape: dict[str, Any]) -> AppConfig:
    return AppConfig.model_validate(
        {
            "router": {"host": "127.0.0.1", "port": port, "cpus": 0.1},
            "models": [{"model": "tiny-mistral-small-3.2", "cpus": 1, **shape}],
        }
    )


def wait_until_running() -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while (status := serve.status().applications[app.NAME]).status != "RUNNING":
        if status.status == "DEPLOY_FAILED" or time.monotonic() > deadline_s:
            raise SystemExit(f"{status.status}: {status.message} {status.deployments}")
        time.sleep(0.5)


def stage_nodes() -> list[str]:
    """The node of each bundle of the engine's placement group."""
    (group,) = (
        group
        for group in placement_group_table().values()
        if group["state"] == "CREATED" and "Engine" in group["name"]
    )
    return list(group["bundles_to_node_id"].values())


def ask(port: int, prompt: str) -> Any:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
    }
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    response = httpx.post(url, json=body, timeout=120).raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
