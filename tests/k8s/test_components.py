"""deploy/components/: what each changes in any overlay, as a user combines them."""

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serving.cli.commands import app
from serving.deploy.lint.network import Peer, allowed
from serving.deploy.lint.pods import pods
from serving.deploy.manifests import Manifests, read
from serving.deploy.pods import GPU, usage
from tests.cluster import trial
from tests.k8s.manifests import K8S, OVERLAY_NAMES, OVERLAYS, ROOT, needs_kubectl, the
from tests.k8s.mistakes import linted

pytestmark = needs_kubectl

COMPONENTS = sorted(path.name for path in (ROOT / "deploy/components").iterdir())
NOT_FOR = {
    "cpu": {"nvidia-runtime", "mirror", "private-ca", "offline"},
    "node-local-cache": {"mirror"},
}
"""The CPU overlay has no GPUs, and an embedded model instead of downloads. `mirror` is for the
weights' Job, which the cache on nodes does without."""
CLOUDS_OWN = ("cilium.io", "networking.gke.io")
"""API groups whose definitions are in the clusters that have them."""


def combined(folder: Path, base: Path, components: Sequence[str]) -> Manifests:
    """An overlay of a user's over `base`."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base, folder)],
        "components": [
            os.path.relpath(ROOT / "deploy/components" / name, folder) for name in components
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return read(folder)


def weights_container(manifests: Manifests) -> dict[str, object]:
    spec = the(manifests, "Job", "weights")["spec"]["template"]["spec"]
    return dict(spec["containers"][0])


def test_the_document_has_each() -> None:
    table = (ROOT / "deploy/docs/platforms.md").read_text().partition("## Network")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = re.findall(r"`([\w-]+)`", " ".join(cells))
    assert sorted(named) == COMPONENTS


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_all_go_together_with_each_overlay(name: str, tmp_path: Path) -> None:
    left_out = NOT_FOR.get(name, set()) | {"load-balancer"}  # GKE's has that
    manifests = combined(tmp_path, OVERLAYS / name, sorted(set(COMPONENTS) - left_out))
    result = CliRunner().invoke(app, ["deploy", "lint", str(tmp_path)], catch_exceptions=False)
    assert result.output.endswith(" objects, nothing wrong\n"), result.output
    for pod in pods(manifests):
        wants = "nvidia" if usage(pod.spec)[f"requests.{GPU}"] else None
        assert pod.spec.get("runtimeClassName") == wants


def test_a_cluster_takes_them_and_gets_ready(tmp_path: Path) -> None:
    chosen = [each for each in COMPONENTS if each != "load-balancer"]
    objects = [
        obj
        for obj in combined(tmp_path, K8S, chosen).objects
        if not obj["apiVersion"].startswith(CLOUDS_OWN)
    ]
    assert trial.problems(objects) == []


def test_openshift_gets_to_choose_users_and_groups(tmp_path: Path) -> None:
    found = pods(combined(tmp_path, K8S, ["openshift"]))
    assert len(found) > 4
    for pod in found:
        context = pod.spec["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys(), pod.owner
        assert context["runAsNonRoot"] is True


def test_ciliums_policies_are_for_the_pods_of_those_of_kubernetes(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["cilium"])
    policies = manifests.of_kind("CiliumNetworkPolicy")
    assert len(policies) == 2
    for policy in policies:
        same = the(manifests, "NetworkPolicy", policy["metadata"]["name"])
        assert policy["spec"]["endpointSelector"] == same["spec"]["podSelector"]


@pytest.mark.parametrize(
    ("component", "address", "reached"),
    [
        (None, "35.191.3.4", False),
        ("gke", "35.191.3.4", True),
        ("gke", "130.211.1.1", True),
        ("gke", "10.0.3.4", False),
        ("load-balancer", "10.0.3.4", True),
    ],
)
def test_load_balancers_reach_the_routers_alone(
    component: str | None, address: str, reached: bool, tmp_path: Path
) -> None:
    manifests = combined(tmp_path, K8S, [component] if component else [])
    policies, balancer = manifests.of_kind("NetworkPolicy"), Peer(ip=address)
    found = {
        pod.component
        for pod in pods(manifests)
        if allowed(policies, balancer, Peer(pod.namespace, pod.labels), 8000)
    }
    assert found == ({"router"} if reached else set())


def test_gke_checks_and_waits_as_the_routers_need(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["gke"])
    service = f"{manifests.service['metadata']['name']}-serve-svc"
    router = next(pod for pod in pods(manifests) if pod.component == "router")
    probe = router.containers[0]["readinessProbe"]["httpGet"]
    health = the(manifests, "HealthCheckPolicy", "mistral-serve")["spec"]
    backend = the(manifests, "GCPBackendPolicy", "mistral-serve")["spec"]
    check = health["default"]["config"]["httpHealthCheck"]
    assert (check["requestPath"], check["port"]) == (probe["path"], router.ports["serve"])
    assert {health["targetRef"]["name"], backend["targetRef"]["name"]} == {service}
    grace_s = router.spec["terminationGracePeriodSeconds"]
    assert backend["default"]["connectionDraining"]["drainingTimeoutSec"] >= grace_s


def test_downloads_go_by_a_mirror_and_its_certificates(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["mirror", "private-ca"])
    container = weights_container(manifests)
    assert container["envFrom"] == [{"configMapRef": {"name": "downloads"}}]
    settings = the(manifests, "ConfigMap", "downloads")["data"]
    assert settings.keys() == {"HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HTTPS_PROXY", "NO_PROXY"}
    (job,) = [pod for pod in pods(manifests) if pod.component == "weights"]
    source, policies = Peer(job.namespace, job.labels), manifests.of_kind("NetworkPolicy")
    assert allowed(policies, source, Peer(ip="10.1.2.3"), 3128)
    folders = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}  # type: ignore[attr-defined]
    env = {each["name"]: each.get("value") for each in container["env"]}  # type: ignore[attr-defined]
    assert env["SSL_CERT_FILE"] == f"{folders['private-ca']}/ca.crt"
    assert the(manifests, "ConfigMap", "private-ca")["data"].keys() == {"ca.crt"}


def test_offline_nothing_is_fetched(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["offline"])
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in weights_container(manifests)["env"]  # type: ignore[operator]
    (job,) = [pod for pod in pods(manifests) if pod.component == "weights"]
    source, policies = Peer(job.namespace, job.labels), manifests.of_kind("NetworkPolicy")
    assert not allowed(policies, source, Peer(ip="93.184.215.14"), 443)


def test_under_gitops_the_job_stays_with_its_failed_tries(tmp_path: Path) -> None:
    spec = the(combined(tmp_path, K8S, ["gitops"]), "Job", "weights")["spec"]
    assert "ttlSecondsAfterFinished" not in spec
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_routers_get_the_declared_adapters(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["adapters"])
    mount = {"name": "adapters", "mountPath": "/etc/mistral-serve/adapters", "readOnly": True}
    (router,) = (
        pod.spec for pod in pods(manifests) if mount in pod.spec["containers"][0]["volumeMounts"]
    )
    assert {"name": "adapters", "configMap": {"name": "adapters", "optional": True}} in router[
        "volumes"
    ]


@pytest.mark.parametrize("name", ["usage", "batches"])
def test_what_routers_keep_gets_a_volume_that_all_of_them_write(name: str, tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, [f"{name}-volume"])
    claim = the(manifests, "PersistentVolumeClaim", name)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    writers = [
        pod.spec
        for pod in pods(manifests)
        if {"name": name, "mountPath": f"/{name}"} in pod.spec["containers"][0]["volumeMounts"]
    ]
    (router,) = writers
    assert {"containerPort": 8000, "name": "serve", "protocol": "TCP"} in router["containers"][0][
        "ports"
    ]


def test_the_folder_that_the_component_has_is_one_for_batches(tmp_path: Path) -> None:
    manifests = combined(tmp_path, K8S, ["batches-volume"])
    objects = copy.deepcopy(list(manifests.objects))
    for obj in objects:
        for place, key in (
            (obj.get("spec", {}), "serveConfigV2"),
            (obj.get("data", {}), "serve.yaml"),
        ):
            if key in place:
                place[key] = place[key].replace("{max_bytes: 0}", "{folder: /batches}")
    assert linted(objects) == []
