"""`mistral-serve deploy logs` and `support-bundle`."""

import tarfile
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Deploy
from tests.cli.deployed import MODEL, NAMESPACE, SECRETS, add_secret, manifests, replace
from tests.cli.stand_in_router import Manner, router
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import PodFault


@pytest.fixture
def running(ready: Cluster, deploy: Deploy) -> Cluster:
    assert deploy("apply").exit_code == 0
    return ready


def pods(cluster: Cluster, component: str) -> list[str]:
    found = cluster.api.store.objects(("", "pods"), NAMESPACE)
    key = "app.kubernetes.io/component"
    return [
        pod["metadata"]["name"] for pod in found if pod["metadata"]["labels"].get(key) == component
    ]


def test_rays_files_of_each_engine_are_shown_with_their_pod(
    running: Cluster, deploy: Deploy
) -> None:
    running.server.run = lambda pod, container, command: (
        f":actor_name:ServeReplica:mistral:Engine\n{container}: {command[-1][:12]}\nend\n"
    )
    result = deploy("logs", "engine", "--tail", "5")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{pod}  {line}"
        for pod in pods(running, "engine")
        for line in ("ray-worker: tail -q -n 5", "end")
    ]


def test_without_a_component_the_logs_are_of_the_pods_in_which_engines_run(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    replace(folder, "component: engine", "component: router")
    deploy("apply", str(folder))
    ready.server.run = lambda pod, container, command: "vLLM is up\n"
    result = deploy("logs")
    assert result.exit_code == 0, result.output
    assert result.stdout == "".join(f"{pod}  vLLM is up\n" for pod in pods(ready, "router"))


def test_a_pod_without_a_log_says_what_it_waits_for(ready: Cluster, deploy: Deploy) -> None:
    labels = {"app.kubernetes.io/component": "engine"}
    ready.kubelet.faults.append(PodFault(labels, "CreateContainerConfigError", "no such volume"))
    deploy("apply")
    result = deploy("logs", "engine")
    assert result.exit_code == 1
    pod = pods(ready, "engine")[0]
    assert f"{pod}  has no log yet: cannot start ray-worker: no such volume" in result.stderr
    assert f"  -> kubectl -n {NAMESPACE} describe pod {pod}" in result.stderr


def test_a_container_that_has_crashed_shows_its_own_log(ready: Cluster, deploy: Deploy) -> None:
    labels = {"app.kubernetes.io/component": "engine"}
    ready.kubelet.faults.append(PodFault(labels, "CrashLoopBackOff", restarts=3))
    deploy("apply")
    pod = pods(ready, "engine")[0]
    ready.server.logs[NAMESPACE, pod, "ray-worker"] = "raylet: out of disk\n"
    result = deploy("logs", "engine")
    assert f"{pod}  raylet: out of disk\n" in result.stdout, result.output


def test_a_containers_own_log(running: Cluster, deploy: Deploy) -> None:
    running.server.logs[NAMESPACE, "redis-0", "redis"] = "one\ntwo\nthree\n"
    assert deploy("logs", "redis", "--tail", "2").stdout == "redis-0  two\nredis-0  three\n"
    followed = deploy("logs", "redis", "--follow")
    assert followed.stdout.splitlines()[0] == "redis-0  one"


def test_a_component_that_there_is_not_is_told_with_those_that_are(
    running: Cluster, deploy: Deploy
) -> None:
    result = deploy("logs", "motor")
    assert result.exit_code == 1
    assert "components with pods: engine, head, redis, router, weights" in result.stderr


def test_pods_that_one_may_not_look_into(running: Cluster, deploy: Deploy) -> None:
    running.faults.denied.add(("create", "pods/exec", "*"))
    result = deploy("logs", "router")
    assert result.exit_code == 4
    pod = pods(running, "router")[0]
    assert f'cannot read Ray\'s logs in {pod}: pods "{pod}" is forbidden: ' in result.stderr
    assert "Traceback" not in result.output


def test_a_rollout_reaches_the_service_through_the_api_server(
    running: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    with router(lambda: Manner((MODEL,))) as url:
        running.server.ports[8000] = int(url.rpartition(":")[2])
        result = deploy("rollout", str(folder), "--requests", "8", "--max-ttft-s", "60")
    assert result.exit_code == 0, result.output
    assert "before: 8 requests, 0 failed" in result.stderr


def test_a_forbidden_way_in_is_told_before_anything_changes(
    running: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    running.faults.denied.add(("create", "pods/portforward", "*"))
    result = deploy("rollout", str(manifests(tmp_path)))
    assert result.exit_code == 4
    assert "through the API server" in result.stderr
    assert "Give the service's address with --url" in result.stderr


def test_the_bundle_has_all_but_secrets_and_prompts(
    running: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    for name, key in SECRETS:
        running.api.delete(running.api.kinds["", "secrets"], NAMESPACE, name)
        add_secret(running, name, key, "never-shown")
    secret = '{"prompt": "my diagnosis is", "max_tokens": 16}'
    running.server.run = lambda pod, container, command: (
        f"engine up\nReceived request cmpl-1: {secret}\nHF_TOKEN=hf_abcdefghijkl tokens=31\n"
    )
    engine = pods(running, "engine")[0]
    running.server.logs[NAMESPACE, engine, "ray-worker"] = "Authorization: Bearer eyJhb\nstarted\n"
    out = tmp_path / "bundle.tar.gz"
    result = deploy("support-bundle", str(out))
    assert result.exit_code == 0, result.output
    with tarfile.open(out) as archive:
        texts = {
            member.name: file.read().decode()
            for member in archive.getmembers()
            if (file := archive.extractfile(member))
        }
    everything = "\n".join(texts.values())
    for hidden in ("never-shown", "my diagnosis", "hf_abcdefghijkl", "eyJhb"):
        assert hidden not in everything
    assert "engine up" in texts[f"bundle/logs/{engine}/ray-worker.ray.log"]
    assert "tokens=31" in texts[f"bundle/logs/{engine}/ray-worker.ray.log"]
    assert "started" in texts[f"bundle/logs/{engine}/ray-worker.log"]
    assert "service: ready" in texts["bundle/status.txt"]
    assert "serveConfigV2" in texts["bundle/objects/RayService.yaml"]


def test_what_the_bundle_may_not_read_it_says_in_its_place(
    running: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    running.faults.denied.add(("list", "nodes", "*"))
    out = tmp_path / "bundle.tar.gz"
    assert deploy("support-bundle", str(out)).exit_code == 0
    with tarfile.open(out) as archive:
        file = archive.extractfile("bundle/objects/Node.yaml")
        assert file is not None
        assert file.read().startswith(b"# not read: you lack the permission to list nodes")


def test_a_bundle_that_cannot_be_written(running: Cluster, deploy: Deploy, tmp_path: Path) -> None:
    result = deploy("support-bundle", str(tmp_path / "no" / "folder.tar.gz"))
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


def test_diff_is_empty_then_names_the_change_and_what_kuberay_does(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    new = deploy("diff", str(folder))
    assert new.exit_code == 1
    assert "+kind: RayService" in new.stdout
    deploy("apply", str(folder))
    same = deploy("diff", str(folder))
    assert (same.exit_code, same.stdout) == (0, "")
    replace(folder, ":0.1.0", ":0.2.0")
    changed = deploy("diff", str(folder))
    assert changed.exit_code == 1
    assert "-            image: registry.test/mistral-serve:0.1.0" in changed.stdout
    assert "+            image: registry.test/mistral-serve:0.2.0" in changed.stdout
    assert "RayService mistral-serve/mistral: a second cluster starts" in changed.stdout
    assert "Job mistral-serve/weights is recreated" in changed.stdout
    replace(folder, ":0.2.0", ":0.1.0")
    replace(folder, "drain_timeout_s: 600", "drain_timeout_s: 500")
    replace(folder, "maxReplicas: 4", "maxReplicas: 6")
    both = deploy("diff", str(folder)).stdout
    assert "RayService mistral-serve/mistral: Serve updates the application in the running" in both
    assert "RayService mistral-serve/mistral: new group sizes apply to the next cluster" in both


def test_diff_finds_what_apply_has_put_into_the_default_namespace(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}}
    (folder / "own.yaml").write_text(yaml.dump(own))
    deploy("apply", str(folder))
    same = deploy("diff", str(folder))
    assert (same.exit_code, same.stdout) == (0, "")


def test_diff_tells_which_values_of_a_secret_change_and_none_of_them(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    metadata = {"name": "own", "namespace": NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    values = {"same": "hush", "other": "old-value"}
    (folder / "secret.yaml").write_text(yaml.dump({**secret, "stringData": values}))
    deploy("apply", str(folder))
    replace(folder, "old-value", "new-value")
    changed = deploy("diff", str(folder))
    assert changed.exit_code == 1
    assert "-  other: '*** (before)'\n+  other: '*** (after)'\n   same: '***'" in changed.stdout
    assert "hush" not in changed.stdout and "-value" not in changed.stdout
