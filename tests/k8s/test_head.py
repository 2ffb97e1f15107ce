"""The head's pod, run as its manifest has it as far as that goes without a cluster."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.k8s.manifests import base
from tests.support.waiting import wait_for

CLUSTER = base().service["spec"]["rayClusterConfig"]
NEW_PROCESS_NUMBERS = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


def may_have_a_process_1() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NEW_PROCESS_NUMBERS, "true"], stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not may_have_a_process_1(), reason="process 1 needs user namespaces")
def test_the_autoscaler_ends_when_its_container_is_told_to() -> None:
    options = CLUSTER["autoscalerOptions"]
    environment = os.environ | {"KUBERAY_GEN_AUTOSCALER_START_CMD": "sleep 600"}
    command = [*NEW_PROCESS_NUMBERS, *options["command"], *options["args"]]
    container = subprocess.Popen(command, env=environment)
    try:
        outside = psutil.Process(container.pid)
        wait_for(lambda: len(outside.children(recursive=True)) == 2, 10, "the autoscaler")
        outside.children()[0].terminate()
        container.wait(10)
    finally:
        container.kill()
        container.wait()


def test_ray_asks_no_metadata_address(tmp_path: Path) -> None:
    ray = CLUSTER["headGroupSpec"]["template"]["spec"]["containers"][0]
    (mount,) = [m["mountPath"] for m in ray["volumeMounts"] if m["name"] == "home"]
    touch = ray["command"][0].replace(mount, str(tmp_path))
    subprocess.run(["sh", "-c", f"{touch} true"], check=True)
    code = (
        "import os, requests\n"
        "from ray._common.usage import usage_lib\n"
        "def get(*arguments, **more): raise SystemExit('it asks')\n"
        "requests.get = get\n"
        "usage_lib.get_cluster_config_to_report(os.path.expanduser('~/ray_bootstrap_config.yaml'))"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    asked = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert asked.returncode == 0, asked.stderr


def test_the_head_does_not_wait_for_its_own_processes_to_leave_it() -> None:
    ray = CLUSTER["headGroupSpec"]["template"]["spec"]["containers"][0]
    set_to = {each["name"]: each["value"] for each in ray["env"] if "value" in each}
    name = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    code = f"from ray._private import ray_constants; print(ray_constants.{name})"
    environment = os.environ | {name: set_to[name]}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert float(said.stdout) == 0


def test_ray_accepts_the_parameters_of_the_head() -> None:
    """`ray start` with them, as far as to the head's first process."""
    flags = [
        f"--{name}={value}" for name, value in CLUSTER["headGroupSpec"]["rayStartParams"].items()
    ]
    code = (
        "import sys, ray._private.node\n"
        "from ray.scripts.scripts import cli\n"
        "def start(*arguments, **more): raise SystemExit('it starts')\n"
        "ray._private.node.Node = start\n"
        "cli(['start', '--head', *sys.argv[1:]])"
    )
    said = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True)
    assert said.stderr.endswith("it starts\n"), said.stderr
