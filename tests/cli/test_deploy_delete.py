"""`mistral-serve deploy delete`."""

import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.deploy import delete
from tests.cli.conftest import Deploy
from tests.cli.deployed import NAMESPACE, manifests
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import PodFault
from tests.support.waiting import wait_for

CLEANUP = ("batch", "jobs")
CLAIMS = "persistentvolumeclaims"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "LOOK_EVERY_S", 0.01)


def things(cluster: Cluster) -> set[tuple[str, str]]:
    """The kind and name of all that is there."""
    return {(key[0][1], key[2]) for key in cluster.api.store.versions()}


def test_all_of_it_is_gone(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    result = deploy("delete", "--yes")
    assert result.exit_code == 0, result.output
    left = ready.api.store.matching(lambda key, _: NAMESPACE in key)
    assert left == []
    assert ("priorityclasses", "mistral-serve") not in things(ready)
    assert ("namespaces", "kuberay-system") in things(ready)
    assert deploy("delete", "--yes").exit_code == 0


def test_redis_and_the_namespace_stay_until_its_state_is_cleaned(
    ready: Cluster, deploy: Deploy
) -> None:
    deploy("apply")
    ready.kubelet.finish_jobs = False
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(deploy("delete", "--yes")))
    thread.start()
    wait_for(lambda: any("cleanup" in name for _, name in things(ready)), 20, "the clean-up")
    assert ("statefulsets", "redis") in things(ready)
    namespace = ready.api.store.get(("", "namespaces"), "", NAMESPACE)
    assert namespace is not None and namespace["status"]["phase"] == "Active"
    ready.kubelet.finish_jobs = True
    ready.reconcile()
    thread.join(20)
    assert results[0].exit_code == 0, results[0].output


def test_the_namespace_goes_when_pods_and_claims_have_ended(
    ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its controller would look at it again only after half of the pods' grace periods."""
    deploy("apply")
    api, delete_one, left = ready.api, ready.api.delete, set[tuple[str, str]]()
    name = next(name for kind, name in things(ready) if kind == "pods" and "router" in name)

    def noting(kind: Any, namespace: str, name: str, **options: Any) -> Any:
        if kind.plural == "namespaces":
            left.update(key for key in things(ready) if key[0] in ("pods", CLAIMS))
            left.difference_update(before)
        return delete_one(kind, namespace, name, **options)

    def finalizers(names: list[str]) -> None:
        patch = {"metadata": {"finalizers": names}}
        api.patch(api.kinds["", "pods"], NAMESPACE, name, "application/merge-patch+json", patch)

    before = {key for key in things(ready) if "kuberay" in key[1]}
    finalizers(["test/answers"])
    monkeypatch.setattr(api, "delete", noting)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(deploy("delete", "--yes")))
    thread.start()
    wait_for(lambda: ("statefulsets", "redis") not in things(ready), 60, "Redis goes")
    wait_for(lambda: len(api.store.objects(("", "pods"), NAMESPACE)) == 1, 60, "the others go")
    finalizers([])
    thread.join(60)
    assert results[0].exit_code == 0, results[0].output
    assert left == set()
    assert ("namespaces", NAMESPACE) not in things(ready)


def test_a_worker_that_waits_for_its_head_does_not_have_its_grace_period(
    ready: Cluster, deploy: Deploy
) -> None:
    deploy("apply")
    ready.kubelet.faults.append(PodFault({"ray.io/node-type": "worker"}, reason="PodInitializing"))
    ready.reconcile()
    kind = ready.api.kinds["", "pods"]
    name = next(name for kind, name in things(ready) if kind == "pods" and "worker" in name)

    def finalizers(names: list[str]) -> None:
        patch = {"metadata": {"finalizers": names}}
        ready.api.patch(kind, NAMESPACE, name, "application/merge-patch+json", patch)

    finalizers(["test/kubelet"])
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(deploy("delete", "--yes")))
    thread.start()

    def is_hurried() -> bool:
        pod = ready.api.store.get(kind.resource, NAMESPACE, name)
        return pod is not None and pod["metadata"].get("deletionGracePeriodSeconds") == 1

    try:
        wait_for(is_hurried, 60, "the worker is ended")
    finally:
        finalizers([])
        thread.join(60)
    assert results[0].exit_code == 0, results[0].output


def test_a_namespace_that_was_deleted_first_is_let_go(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    ready.api.delete(ready.api.kinds["", "namespaces"], "", NAMESPACE)
    ready.api.empty_namespaces()
    assert any(kind == "rayclusters" for kind, _ in things(ready))
    result = deploy("delete", "--yes")
    assert result.exit_code == 0, result.output
    assert "is let go: KubeRay cannot clean Redis" in result.stderr
    assert ("namespaces", NAMESPACE) not in things(ready)


def test_one_that_is_late_says_how_to_let_it_go(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    ready.kubelet.finish_jobs = False
    result = deploy("delete", "--yes", "--timeout", "0")
    assert result.exit_code == 1
    assert "not gone in time: RayService mistral-serve/mistral" in result.stderr
    assert "patch raycluster mistral-" in result.stderr
    assert ("statefulsets", "redis") in things(ready)


def test_nothing_is_deleted_without_a_yes(ready: Cluster, deploy: Deploy) -> None:
    deploy("apply")
    before = things(ready)
    result = CliRunner().invoke(app, ["deploy", "delete"], input="n\n")
    assert result.exit_code == 1
    assert "all else in the namespace mistral-serve" in result.output
    assert things(ready) == before


def test_apply_into_a_namespace_that_is_being_deleted_says_so(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    deploy("apply")
    ready.api.delete(ready.api.kinds["", "namespaces"], "", NAMESPACE)
    one = tmp_path / "redis.yaml"
    one.write_text(Path("k8s/40-rayservice.yaml").read_text().replace("mistral\n", "another\n"))
    for source in ((), (str(one),)):
        result = deploy("apply", *source)
        assert result.exit_code == 1
        assert "the namespace mistral-serve is being deleted" in result.stderr
        assert "permission" not in result.stderr


def test_a_cluster_whose_clean_up_has_no_image_is_let_go(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    assert deploy("apply", str(folder)).exit_code == 0
    ready.kubelet.broken_images.add("registry.test/mistral-serve-cpu:0.1.0")
    result = deploy("delete", str(folder), "--yes")
    assert result.exit_code == 0, result.output
    assert "is let go: KubeRay cannot clean Redis with an image that cannot be pulled" in (
        result.stderr
    )
    assert ("namespaces", NAMESPACE) not in things(ready)
