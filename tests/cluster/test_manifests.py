"""k8s/, its subfolders and its overlays, applied by the real kubectl to an empty cluster."""

import subprocess
from pathlib import Path

import pytest

from tests.cluster import trial
from tests.cluster.cluster import KUBECTL, Cluster
from tests.cluster.kubelet import PodFault
from tests.k8s.manifests import ADD_ONS, K8S, OVERLAY_NAMES, OVERLAYS, ROOT, base

NAMESPACE = "mistral-serve"
# Kubectl sends these again each time, with nothing changed in them, and says so: it takes what the
# server has filled in, inside lists and selectors that it replaces as a whole, for a difference.
SAID_TO_BE_CONFIGURED = {
    "rayservice.ray.io",
    "poddisruptionbudget.policy",
    "statefulset.apps",
    "podmonitor.monitoring.coreos.com",
    "httproute.gateway.networking.k8s.io",
}

pytestmark = pytest.mark.skipif(
    KUBECTL is None, reason="kubectl is not installed: nothing is applied"
)


def applied(cluster: Cluster, *arguments: str) -> list[str]:
    done = cluster.kubectl("apply", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def ran(cluster: Cluster, *arguments: str) -> str:
    done = cluster.kubectl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def applied_twice(cluster: Cluster, *arguments: str) -> int:
    """The number of objects. The second time changes nothing."""
    first = applied(cluster, *arguments)
    before = cluster.api.store.versions()
    second = applied(cluster, *arguments)
    assert cluster.api.store.versions() == before
    others = [line for line in second if line.split("/")[0] not in SAID_TO_BE_CONFIGURED]
    assert all(line.endswith(" unchanged") for line in others), others
    return len(first)


def test_the_commands_of_the_readme_bring_it_up(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        made = subprocess.run(
            [ROOT / "deploy/secrets.sh"],
            env=cluster.environment | {"HF_TOKEN": "of a test"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        assert applied_twice(cluster, "-f", str(K8S)) > 20
        differs = cluster.kubectl("diff", "-f", str(K8S))
        assert (differs.returncode, differs.stdout) == (0, "")
        waited = cluster.kubectl(
            "wait", "--for=condition=Ready", "rayservice/mistral", "-n", NAMESPACE, "--timeout=20s"
        )
        assert waited.returncode == 0, waited.stderr
        assert trial.complaints(cluster) == []


def test_without_secrets_it_waits_and_says_for_what(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        applied(cluster, "-f", str(K8S))
        said = trial.complaints(cluster)
        for name in ("redis-password", "ray-auth-token"):
            assert any(f'secret "{name}" not found' in each for each in said), said
        trial.add_secrets(cluster, NAMESPACE)
        cluster.reconcile()
        assert [each for each in trial.complaints(cluster) if "secret" not in each] == []


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_an_overlay_is_applied_and_gets_ready(name: str, tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        applied(cluster, "-f", str(K8S / "00-namespace.yaml"))
        trial.add_secrets(cluster, NAMESPACE)
        assert applied_twice(cluster, "-k", str(OVERLAYS / name)) > 20
        assert trial.complaints(cluster) == []


@pytest.mark.parametrize("add_on", ADD_ONS)
def test_a_subfolder_is_applied_beside_it(add_on: str, tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        applied(cluster, "-f", str(K8S))
        assert applied_twice(cluster, "-f", str(K8S / add_on)) > 0


def test_a_dry_run_on_the_server_changes_nothing(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        applied(cluster, "-f", str(K8S / "00-namespace.yaml"))
        before = cluster.api.store.versions()
        said = applied(cluster, "-f", str(K8S), "--dry-run=server")
        assert all(line.endswith("(server dry run)") for line in said)
        assert cluster.api.store.versions() == before


def test_the_server_can_merge_it_too(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        applied(cluster, "-f", str(K8S / "00-namespace.yaml"))
        trial.add_secrets(cluster, NAMESPACE)
        applied(cluster, "-f", str(K8S), "--server-side")
        before = cluster.api.store.versions()
        applied(cluster, "-f", str(K8S), "--server-side")
        assert cluster.api.store.versions() == before
        assert trial.complaints(cluster) == []


def test_no_pod_has_an_empty_directory_without_a_limit(tmp_path: Path) -> None:
    cluster = trial.cluster_with_room(tmp_path)
    assert trial.refusals(cluster, list(base().objects)) == []
    for pod in cluster.api.store.objects(("", "pods")):
        dirs = [volume["emptyDir"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume]
        assert all("sizeLimit" in each for each in dirs), pod["metadata"]["name"]


def test_a_port_forward_leads_to_a_router_that_is_up(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        first = PodFault({}, "ContainerCreating", name_end="router-worker-0")
        cluster.kubelet.faults.append(first)
        applied(cluster, "-f", str(K8S / "00-namespace.yaml"))
        trial.add_secrets(cluster, NAMESPACE)
        applied(cluster, "-f", str(K8S))
        asked = cluster.kubectl("-n", NAMESPACE, "port-forward", "svc/router", "0:8000")
        assert "router-worker-1: kubectl's own protocol" in asked.stderr


def test_all_of_it_is_deleted_again(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        before = set(cluster.api.store.versions())
        applied(cluster, "-f", str(K8S / "00-namespace.yaml"))
        trial.add_secrets(cluster, NAMESPACE)
        applied(cluster, "-f", str(K8S))
        ran(cluster, "-n", NAMESPACE, "delete", "rayservice", "mistral")
        ran(cluster, "delete", "--ignore-not-found", "-f", str(K8S))
        assert set(cluster.api.store.versions()) == before


def test_a_namespace_that_goes_first_stays_until_its_cluster_is_let_go(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        before = set(cluster.api.store.versions())
        applied(cluster, "-f", str(K8S))
        ran(cluster, "delete", "-f", str(K8S), "--wait=false")
        why = "jsonpath={.status.conditions[*].message}"
        said = ran(cluster, "get", "namespace", NAMESPACE, "-o", why)
        assert "finalizers remaining: ray.io/gcs-ft-redis-cleanup-finalizer in 1 resource" in said
        (name,) = ran(cluster, "-n", NAMESPACE, "get", "rayclusters", "-o", "name").split()
        none = '{"metadata":{"finalizers":null}}'
        ran(cluster, "-n", NAMESPACE, "patch", name, "--type=merge", "-p", none)
        ran(cluster, "wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=20s")
        assert set(cluster.api.store.versions()) == before


def test_one_who_may_not_is_told_what(tmp_path: Path) -> None:
    with trial.cluster_with_room(tmp_path) as cluster:
        cluster.faults.denied.add(("*", "rayservices", NAMESPACE))
        refused = cluster.kubectl("apply", "-f", str(K8S))
        assert refused.returncode == 1
        assert 'cannot get resource "rayservices" in API group "ray.io"' in refused.stderr


def test_an_absent_operator_is_named(tmp_path: Path) -> None:
    with Cluster(tmp_path, crd_groups=()) as cluster:
        refused = cluster.kubectl("apply", "-f", str(K8S))
        assert refused.returncode == 1
        assert "ensure CRDs are installed first" in refused.stderr
