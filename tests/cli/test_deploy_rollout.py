"""`mistral-serve deploy rollout`."""

from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from serving.conformance.suite import CHECKS
from serving.deploy import progress, waiting
from tests.cli.conftest import Deploy
from tests.cli.deployed import MODEL, NAMESPACE, manifests, replace
from tests.cli.stand_in_router import Manner, router
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import PodFault

RAYSERVICE = ("ray.io", "rayservices")

# A busy machine slows the stand-in too; only one test is about speed.
ANY_SPEED = ("--max-ttft-s", "60")


@pytest.fixture
def folder(ready: Cluster, deploy: Deploy, tmp_path: Path) -> Path:
    """The manifests that are in force."""
    copy = manifests(tmp_path)
    assert deploy("apply", str(copy), "--wait").exit_code == 0
    return copy


def images(cluster: Cluster) -> set[str]:
    """The images of the running pods."""
    pods = cluster.api.store.objects(("", "pods"), NAMESPACE)
    return {
        container["image"]
        for pod in pods
        for container in pod["spec"]["containers"]
        if "mistral-serve" in container["image"] and "ray.io/cluster" in pod["metadata"]["labels"]
    }


def service(cluster: Cluster) -> dict[str, object]:
    found = cluster.api.store.get(RAYSERVICE, NAMESPACE, "mistral")
    assert found is not None
    spec: dict[str, object] = found["spec"]
    return spec


def tag(cluster: Cluster) -> str:
    (only,) = {image.rpartition(":")[2] for image in images(cluster)}
    return only


def rolled(deploy: Deploy, folder: Path, *options: str, requests: int = 2) -> Result:
    """The rollout of `folder` at a service that is as good after as before."""
    with router(lambda: Manner((MODEL,))) as url:
        return deploy("rollout", str(folder), "--url", url, f"--requests={requests}", *options)


def test_nothing_changed_is_nothing_to_do(folder: Path, ready: Cluster, deploy: Deploy) -> None:
    result = rolled(deploy, folder)
    assert result.exit_code == 0
    assert "nothing to roll out" in result.stderr


def test_a_good_image_takes_over(folder: Path, ready: Cluster, deploy: Deploy) -> None:
    replace(folder, ":0.1.0", ":0.2.0")
    result = rolled(deploy, folder, *ANY_SPEED, requests=6)
    assert result.exit_code == 0, result.output
    assert "a second cluster starts and takes over" in result.stderr
    assert "4 more GPUs are in use" in result.stderr
    assert "after: 6 requests, 0 failed" in result.stderr
    assert tag(ready) == "0.2.0"


def test_the_weights_come_before_the_service_that_needs_them(
    folder: Path, ready: Cluster, deploy: Deploy
) -> None:
    seen = []

    def note(application: object, cluster: object) -> tuple[str, str]:
        job = ready.api.store.get(("batch", "jobs"), NAMESPACE, "weights")
        seen.append((job or {}).get("status", {}).get("succeeded"))
        return "RUNNING", ""

    text = "drain_timeout_s: 600"
    replace(folder, text, "drain_timeout_s: 500")
    first = ready.api.store.get(("batch", "jobs"), NAMESPACE, "weights")
    ready.kuberay.judge = note
    result = rolled(deploy, folder, *ANY_SPEED)
    assert result.exit_code == 0, result.output
    assert "Serve updates the application in the running cluster" in result.stderr
    again = ready.api.store.get(("batch", "jobs"), NAMESPACE, "weights")
    assert first is not None
    assert again is not None
    assert first["metadata"]["uid"] != again["metadata"]["uid"]
    assert seen[-1] == 1
    assert "drain_timeout_s: 500" in str(service(ready)["serveConfigV2"])


def test_an_image_that_cannot_be_pulled_returns_to_the_old_one(
    folder: Path, ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(waiting, "_SHORT_S", 0.1)
    ready.kubelet.broken_images.add("registry.test/mistral-serve:0.2.0")
    replace(folder, ":0.1.0", ":0.2.0")
    before = service(ready)
    result = rolled(deploy, folder)
    assert result.exit_code == 1
    assert "cannot pull its image" in result.stderr
    assert result.stderr.endswith("not rolled out: the old version serves again\n")
    assert service(ready) == before
    assert tag(ready) == "0.1.0"
    assert not list(tmp_path.glob(f"{NAMESPACE}-before-*"))


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        (Manner((MODEL,), status=500), "HTTP 500 (6)"),
        (Manner((MODEL,), cut=True), "the answer broke off (6)"),
        (Manner((MODEL,), ttft_s=0.5), "the median TTFT is "),
        (Manner(("another",)), f"{MODEL} is not served"),
    ],
)
def test_a_worse_service_is_taken_back(
    folder: Path, ready: Cluster, deploy: Deploy, worse: Manner, said: str
) -> None:
    replace(folder, ":0.1.0", ":0.2.0")

    def manner() -> Manner:
        return worse if any(image.endswith(":0.2.0") for image in images(ready)) else good

    good = Manner((MODEL,))
    with router(manner) as url:
        options = ("--url", url, "--requests", "6", "--max-ttft-s", "0.4")
        result = deploy("rollout", str(folder), *options)
    assert result.exit_code == 1
    assert said in result.stderr
    assert tag(ready) == "0.1.0"


def test_weights_that_cannot_be_fetched_change_nothing(
    folder: Path, ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_FAILED_FOR_S", 0.1)
    weights = {"app.kubernetes.io/component": "weights"}
    ready.kubelet.faults.append(PodFault(weights, message="no such revision", phase="Failed"))
    before = service(ready)
    replace(folder, "drain_timeout_s: 600", "drain_timeout_s: 500")
    result = rolled(deploy, folder)
    assert result.exit_code == 1
    assert "weights: failed" in result.stderr
    assert "the old version serves again" in result.stderr
    assert service(ready) == before
    config = ready.api.store.get(("", "configmaps"), NAMESPACE, "serve-config")
    assert config is not None
    assert "drain_timeout_s: 600" in config["data"]["serve.yaml"]


def test_a_change_that_kuberay_would_ignore_is_refused(
    folder: Path, ready: Cluster, deploy: Deploy
) -> None:
    replace(folder, "type: NewCluster", 'type: "None"')
    assert deploy("apply", str(folder)).exit_code == 0
    replace(folder, ":0.1.0", ":0.2.0")
    result = deploy("rollout", str(folder))
    assert result.exit_code == 1
    assert "delete rayservice mistral, then mistral-serve deploy apply" in result.stderr
    assert tag(ready) == "0.1.0"


def test_a_failed_conformance_check_takes_it_back(
    folder: Path, ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    unstreamed = CHECKS[:1]
    monkeypatch.setattr("serving.deploy.check.CHECKS", unstreamed)
    replace(folder, ":0.1.0", ":0.2.0")
    result = rolled(deploy, folder, "--conformance", *ANY_SPEED)
    assert result.exit_code == 1
    assert f"failed: conformance: {unstreamed[0].name}: " in result.stderr
    assert tag(ready) == "0.1.0"


def test_edits_by_hand_are_brought_back_too(
    folder: Path, ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_SHORT_S", 0.1)
    kind = ready.api.kinds[RAYSERVICE]
    live = ready.api.get(kind, NAMESPACE, "mistral")
    live["spec"]["rayClusterDeletionDelaySeconds"] = 7
    ready.api.update(kind, NAMESPACE, "mistral", live)
    ready.kubelet.broken_images.add("registry.test/mistral-serve:0.2.0")
    replace(folder, ":0.1.0", ":0.2.0")
    rolled(deploy, folder)
    assert service(ready)["rayClusterDeletionDelaySeconds"] == 7


def test_a_service_that_is_not_up_is_not_rolled(
    folder: Path, ready: Cluster, deploy: Deploy
) -> None:
    ready.kuberay.judge = lambda application, cluster: ("UNHEALTHY", "")
    ready.reconcile()
    replace(folder, ":0.1.0", ":0.2.0")
    result = deploy("rollout", str(folder), "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "there is nothing to roll back to" in result.stderr


def test_a_check_that_cannot_begin_changes_nothing(
    folder: Path, ready: Cluster, deploy: Deploy
) -> None:
    replace(folder, ":0.1.0", ":0.2.0")
    result = deploy("rollout", str(folder), "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9 lists no models" in result.stderr
    assert tag(ready) == "0.1.0"


def test_a_config_that_the_service_would_not_take_is_refused_first(
    folder: Path, ready: Cluster, deploy: Deploy
) -> None:
    replace(folder, "variant: bf16-tp2", "variant: bf17")
    result = deploy("rollout", str(folder))
    assert result.exit_code == 2
    assert "unknown variant 'bf17'" in result.stderr


def test_a_return_that_fails_says_what_to_run(
    folder: Path, ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    replace(folder, ":0.1.0", ":0.2.0")

    def manner() -> Manner:
        if not any(image.endswith(":0.2.0") for image in images(ready)):
            return Manner((MODEL,))
        ready.faults.denied.add(("patch", "rayservices", "*"))
        return Manner((MODEL,), status=500)

    with router(manner) as url:
        result = deploy("rollout", str(folder), "--url", url, "--requests", "2")
    assert result.exit_code == 1
    (kept,) = tmp_path.glob(f"{NAMESPACE}-before-*.yaml")
    assert f"By hand: kubectl apply --server-side --force-conflicts -f {kept}" in result.stderr
    (old,) = yaml.safe_load_all(kept.read_text())
    assert old["kind"] == "RayService"
    assert ":0.1.0" in kept.read_text()
