"""`mistral-serve deploy drain`."""

from tests.cli.conftest import Deploy
from tests.cli.deployed import NAMESPACE
from tests.cluster.cluster import Cluster


def on(cluster: Cluster, node: str) -> list[str]:
    pods = cluster.api.store.objects(("", "pods"), NAMESPACE)
    return [
        pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("nodeName") == node and pod["status"]["phase"] == "Running"
    ]


def test_pods_move_to_another_node_and_none_comes_back(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    engines = on(ready, "gpu-0")
    assert engines
    result = deploy("drain", "gpu-0")
    assert result.exit_code == 0, result.output
    assert on(ready, "gpu-0") == []
    assert set(engines) <= set(on(ready, "gpu-1"))
    assert "to let it take pods again: kubectl uncordon gpu-0" in result.stderr


def test_a_budget_holds_the_last_engine_until_the_time_is_up(
    ready: Cluster, deploy: Deploy
) -> None:
    deploy("apply")
    kind = ready.api.kinds["", "nodes"]
    other = ready.api.get(kind, "", "gpu-1")
    ready.api.update(kind, "", "gpu-1", other | {"spec": {"unschedulable": True}})
    result = deploy("drain", "gpu-0", "--timeout", "0")
    assert result.exit_code == 1
    assert "disruption budget" in result.stderr
    assert "cannot be evicted" in result.stderr
    assert len(on(ready, "gpu-0")) == 1


def test_a_node_that_there_is_not(ready: Cluster, deploy: Deploy) -> None:
    result = deploy("drain", "gpu-9")
    assert result.exit_code == 1
    assert "there is no node gpu-9; the nodes are: cpu-0, gpu-0, gpu-1" in result.stderr


def test_a_node_that_does_not_answer_is_not_waited_for(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    ready.lose_node("gpu-0")
    result = deploy("drain", "gpu-0")
    assert result.exit_code == 1
    taint = "kubectl taint nodes gpu-0 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
    assert (
        f"gpu-0 does not answer, so its pods cannot end. If it is off, give them up: {taint}"
        in (result.stderr)
    )
    assert f"-> if the node is off: {taint}" in deploy("status").stdout
