"""`mistral-serve deploy apply` and `status`."""

import shutil
import threading
from pathlib import Path

import pytest

from serving.deploy import progress, snapshot, waiting
from tests.cli.conftest import Deploy
from tests.cli.deployed import NAMESPACE, SECRETS, add_secret, make_ready, manifests, replace
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import PodFault
from tests.cluster.kuberay import running
from tests.test_start_errors import CAUSE, MESSAGE

ENGINE = {"app.kubernetes.io/component": "engine"}


def test_all_is_created_waited_for_and_the_same_again_changes_nothing(
    ready: Cluster, deploy: Deploy
) -> None:
    first = deploy("apply", "--wait")
    assert first.exit_code == 0, first.output
    assert "created   RayService mistral-serve/mistral" in first.stdout
    assert first.stderr.splitlines()[-1].endswith("ready")
    second = deploy("apply")
    count = first.stdout.splitlines()[-1].split()[0]
    assert second.stdout == f"{count} objects, {count} unchanged\n"


def test_status_tells_when_all_is_up_and_when_nothing_is(ready: Cluster, deploy: Deploy) -> None:
    before = deploy("status")
    assert before.exit_code == 1
    assert "there is no RayService in mistral-serve" in before.stderr
    deploy("apply")
    after = deploy("status")
    assert after.exit_code == 0
    assert "up      engine: 2 of 2 ready" in after.stdout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_it_goes_on_where_kubectl_was_and_takes_away_what_is_no_longer_said(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    assert ready.kubectl("apply", "-f", str(folder)).returncode == 0
    replace(folder, "  excludeHeadPodFromServeSvc: true\n", "")
    assert deploy("apply", str(folder)).exit_code == 0
    path = "jsonpath={.spec.excludeHeadPodFromServeSvc}"
    left = ready.kubectl("-n", NAMESPACE, "get", "rayservice", "mistral", "-o", path)
    assert left.stdout == ""


def test_a_pod_without_a_node_says_what_no_node_has(cluster: Cluster, deploy: Deploy) -> None:
    make_ready(cluster, gpu_nodes=0)
    deploy("apply")
    result = deploy("status")
    assert result.exit_code == 1
    assert "waits   engine: 0 of 2 ready" in result.stdout
    assert "waits for a node with enough GPUs: 0/1 nodes are available" in result.stdout


def test_a_failed_pull_ends_the_wait_with_the_image_and_what_to_look_at(
    ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_SHORT_S", 0.1)
    ready.kubelet.broken_images.add("registry.example.com/mistral-serve:0.1.0")
    result = deploy("apply", "--wait")
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert "cannot pull its image" in last
    assert "registry.example.com/mistral-serve:0.1.0" in last


def test_a_missing_secret_is_named_with_the_script_that_makes_it(
    cluster: Cluster, deploy: Deploy
) -> None:
    make_ready(cluster)
    cluster.api.delete(cluster.api.kinds["", "secrets"], NAMESPACE, "ray-auth-token")
    deploy("apply")
    result = deploy("status")
    assert 'cannot start ray-worker: secret "ray-auth-token" not found' in result.stdout
    assert "-> deploy/secrets.sh creates missing secrets" in result.stdout


def test_a_crash_loop_names_the_container_and_its_log(ready: Cluster, deploy: Deploy) -> None:
    ready.kubelet.faults.append(PodFault(ENGINE, "CrashLoopBackOff", "back-off 5m0s", restarts=7))
    deploy("apply")
    result = deploy("status")
    assert "ray-worker has crashed 7 times" in result.stdout
    assert "--previous" in result.stdout


def test_what_serve_says_of_a_failed_deployment_ends_the_wait(
    ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_FAILED_FOR_S", 0.1)
    ready.kuberay.judge = lambda application, cluster: ("DEPLOY_FAILED", "no such model")
    result = deploy("apply", "--wait")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(
        "application mistral: DEPLOY_FAILED; no such model"
    )


def test_status_ends_at_the_root_cause_of_an_engine_that_does_not_start(
    ready: Cluster, deploy: Deploy
) -> None:
    ready.kuberay.judge = lambda application, cluster: ("DEPLOY_FAILED", MESSAGE)
    deploy("apply")
    assert f"mistral: DEPLOY_FAILED; {CAUSE}\n" in deploy("status").stdout


def test_a_good_image_heals_a_failed_application(ready: Cluster, deploy: Deploy) -> None:
    ready.kuberay.judge = lambda application, cluster: ("DEPLOY_FAILED", "no kernels")
    deploy("apply")
    (failed,) = ready.api.store.objects(("ray.io", "rayclusters"))
    ready.kuberay.judge = running  # the same image tag, mended
    ready.reconcile()
    assert "DEPLOY_FAILED; no kernels" in deploy("status").stdout
    result = deploy("apply", "--wait")
    assert result.exit_code == 0, result.output
    assert "Serve does not try it again by itself: RayCluster mistral-serve/" in result.stdout
    (new,) = ready.api.store.objects(("ray.io", "rayclusters"))
    assert new["metadata"]["uid"] != failed["metadata"]["uid"]


def test_a_changed_config_heals_a_failed_application_in_place(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    ready.kuberay.judge = lambda application, cluster: ("DEPLOY_FAILED", "no such model")
    deploy("apply")
    (cluster,) = ready.api.store.objects(("ray.io", "rayclusters"))
    ready.kuberay.judge = running
    folder = manifests(tmp_path)
    replace(folder, "registry.test", "registry.example.com")
    replace(folder, "drain_timeout_s: 600", "drain_timeout_s: 500")
    result = deploy("apply", str(folder), "--wait")
    assert result.exit_code == 0, result.output
    assert "try it again" not in result.stdout
    (same,) = ready.api.store.objects(("ray.io", "rayclusters"))
    assert same["metadata"]["uid"] == cluster["metadata"]["uid"]


def test_a_change_in_place_is_waited_for_although_serve_begins_it_a_moment_later(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    deploy("apply", "--wait")
    folder = manifests(tmp_path)
    replace(folder, "registry.test", "registry.example.com")
    replace(folder, "drain_timeout_s: 600", "drain_timeout_s: 500")
    looks = 0

    def take(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        deploys = 1 < looks < 4
        ready.kuberay.judge = lambda *_: ("DEPLOYING" if deploys else "RUNNING", "")
        ready.reconcile()
        return snapshot.take(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.deploy.follow.take", take)
        result = deploy("apply", str(folder), "--wait")
    assert result.exit_code == 0, result.output
    assert "application mistral: DEPLOYING" in result.stderr
    assert looks >= 5  # running before it, twice while it deploys, and twice after it


def test_a_failed_application_that_clients_reach_is_not_replaced(
    ready: Cluster, deploy: Deploy
) -> None:
    deploy("apply", "--wait")
    ready.kuberay.judge = lambda application, cluster: ("DEPLOY_FAILED", "out of memory")
    ready.reconcile()
    (cluster,) = ready.api.store.objects(("ray.io", "rayclusters"))
    result = deploy("apply")
    name = cluster["metadata"]["name"]
    assert f"kubectl -n {NAMESPACE} delete raycluster {name}" in result.stdout
    assert ready.api.store.objects(("ray.io", "rayclusters"))[0]["metadata"]["name"] == name


def test_a_pod_that_the_autoscaler_adds_without_a_router_holds_nothing_up(
    ready: Cluster, deploy: Deploy
) -> None:
    deploy("apply", "--wait")
    ready.kubelet.faults.append(PodFault({}, phase="Running", name_end="router-worker-2"))
    (cluster,) = ready.api.store.objects(("ray.io", "rayclusters"))
    (router,) = (g for g in cluster["spec"]["workerGroupSpecs"] if g["groupName"] == "router")
    router["replicas"] = 3
    kind = ready.api.kinds["ray.io", "rayclusters"]
    ready.api.update(kind, NAMESPACE, cluster["metadata"]["name"], cluster)
    assert "up      router: 2 of 3 ready" in deploy("status").stdout
    assert deploy("apply", "--wait").exit_code == 0
    ready.kubelet.faults.append(PodFault({}, phase="Running", name_end="router-worker-1"))
    ready.reconcile()
    status = deploy("status")
    assert status.exit_code == 1
    assert "waits   router: 1 of 3 ready" in status.stdout


def test_weights_on_their_way_show_the_jobs_last_word(ready: Cluster, deploy: Deploy) -> None:
    ready.kubelet.finish_jobs = False
    deploy("apply")
    ready.server.logs[NAMESPACE, "weights-0", "weights"] = "start\n12.5 of 44.8 GiB\n"
    assert "waits   weights: 12.5 of 44.8 GiB" in deploy("status").stdout


def test_a_denied_kind_is_told_and_the_rest_applied(ready: Cluster, deploy: Deploy) -> None:
    ready.faults.denied.add(("patch", "priorityclasses", "*"))
    result = deploy("apply")
    assert result.exit_code == 4
    assert "refused   PriorityClass mistral-serve" in result.stdout
    assert "created   RayService mistral-serve/mistral" in result.stdout
    assert "you lack the permission to apply PriorityClass mistral-serve" in result.stderr


def test_the_wait_outlives_an_api_server_that_is_away_for_a_while(
    ready: Cluster, deploy: Deploy
) -> None:
    ready.kubelet.finish_jobs = False
    waits: list[str] = []

    def come_back() -> None:
        ready.faults.unavailable = 5
        ready.kubelet.finish_jobs = True
        ready.reconcile()

    def take(*arguments: object) -> object:
        if not waits:
            waits.append("begun")
            threading.Thread(target=come_back).start()
        return snapshot.take(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.deploy.follow.take", take)
        result = deploy("apply", "--wait")
    assert result.exit_code == 0, result.output
    assert "trying again" in result.stderr
    assert "the cluster answers again" in result.stderr


def test_an_api_server_that_stays_away_is_an_error_of_its_own(
    ready: Cluster, deploy: Deploy
) -> None:
    ready.faults.unavailable = 10**6
    result = deploy("status")
    assert result.exit_code == 1
    assert "the API server says 503" in result.stderr


def test_ctrl_c_ends_the_wait_and_says_that_the_cluster_goes_on(
    ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serving.deploy.follow.take", interrupted)
    result = deploy("apply", "--wait")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted; changes already made in the cluster stay\n")


def test_a_lost_watch_loses_nothing(ready: Cluster, deploy: Deploy) -> None:
    ready.lose_watches()
    assert deploy("apply", "--wait").exit_code == 0


def test_a_namespace_with_two_services_is_refused(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    deploy("apply")
    folder = manifests(tmp_path)
    named = "kind: RayService\nmetadata:\n  name: {}\n"
    replace(folder, named.format("mistral"), named.format("two"))
    deploy("apply", str(folder))
    assert "more than one RayService: mistral, two" in deploy("status").stderr


def test_an_overlay_is_put_together_by_kubectl(ready: Cluster, deploy: Deploy) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    result = deploy("apply", "deploy/overlays/cpu")
    assert result.exit_code == 0, result.output
    assert (
        "same as: kubectl apply --server-side --force-conflicts -k deploy/overlays/cpu"
        in result.stderr
    )


def test_secrets_do_not_show(ready: Cluster, deploy: Deploy) -> None:
    for name, key in SECRETS:
        ready.api.delete(ready.api.kinds["", "secrets"], NAMESPACE, name)
        add_secret(ready, name, key, "not-to-be-seen")
    output = [deploy(*command).output for command in (("preflight",), ("apply",), ("status",))]
    assert not any("not-to-be-seen" in each for each in output)
