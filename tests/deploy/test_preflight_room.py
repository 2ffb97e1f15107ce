"""Nodes, GPUs and quotas: whether a cluster has room for the service."""

from pathlib import Path

import pytest

from serving.deploy.capacity import nodes
from serving.deploy.facts import Facts
from serving.deploy.finding import State
from serving.deploy.gpus import gpu_types
from serving.deploy.quotas import quotas
from tests.cli.deployed import H100, NAMESPACE
from tests.deploy.facts import FACTS, MANIFESTS, Object, having, node, of, with_service


def test_room_for_all_and_for_an_upgrade_is_good() -> None:
    found = list(nodes(MANIFESTS, FACTS))
    assert {finding.state for finding in found} == {State.ok}


def test_gpus_that_others_use_are_not_free_and_our_own_are() -> None:
    busy = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "6"}}}], "nodeName": "gpu-0"}
    ours = {"namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "mistral-serve"}}

    def with_pod(metadata: Object) -> Facts:
        pod = {"metadata": metadata, "spec": busy, "status": {"phase": "Running"}}
        return having(pods=[pod])

    (short,) = of(State.missing, nodes(MANIFESTS, with_pod({"namespace": "other"})))
    assert short.subject == "GPUs"
    assert (
        "1 of 2 engine (8 cpu, 48 GiB memory, 10 GiB ephemeral-storage, 2 nvidia.com/gpu"
        in short.message
    )
    assert of(State.missing, nodes(MANIFESTS, with_pod(ours))) == []


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"unschedulable": True}, "gpu-0 is cordoned"),
        (
            {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]},
            "gpu-0 has the taint team=a:NoSchedule",
        ),
    ],
)
def test_nodes_that_take_none_of_our_pods_do_not_count_and_are_named(
    spec: Object, why: str
) -> None:
    closed = having(nodes=[node("gpu-0", **spec), node("cpu-0", gpus=0)])
    found = list(nodes(MANIFESTS, closed))
    assert [(each.subject, each.state) for each in found] == [("GPUs", State.missing)]
    assert found[0].message.endswith(why)
    tolerate = [fix for fix in found[0].fix if "edit raycluster" in fix]
    assert bool(tolerate) is ("taint" in why)


def test_gpus_for_one_cluster_alone_are_a_caution_for_upgrades(tmp_path: Path) -> None:
    small = having(nodes=[node("gpu-0", gpus=4), node("cpu-0", gpus=0)])
    (caution,) = of(State.caution, nodes(MANIFESTS, small))
    assert "no room for 2 of 2 engine pods of 2 GPUs" in caution.message
    in_place = with_service(tmp_path, "type: NewCluster", 'type: "None"')
    assert of(State.caution, nodes(in_place, small)) == []


@pytest.mark.parametrize(("running", "fits"), [(2, True), (3, False)])
def test_what_autoscaling_has_added_leaves_less_room_for_an_upgrade(
    running: int, fits: bool
) -> None:
    labels = {"app.kubernetes.io/part-of": "mistral-serve", "ray.io/group": "engine"}
    spec = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}], "nodeName": "gpu-0"}
    pod = {"metadata": {"namespace": NAMESPACE, "labels": labels}, "spec": spec, "status": {}}
    found = of(State.caution, nodes(MANIFESTS, having(pods=[pod] * running)))
    assert (found == []) is fits


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        ({"nvidia.com/gpu.product": H100, "nvidia.com/gpu.memory": "81559"}, True),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, True),
    ],
)
def test_gpus_must_have_the_memory_that_the_config_counts_with(
    labels: dict[str, str], fits: bool
) -> None:
    gpu = node("gpu-0")
    gpu["metadata"]["labels"] = labels
    found = of(State.missing, gpu_types(MANIFESTS, having(nodes=[gpu])))
    assert (found == []) is fits


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"nvidia.com/cuda.driver.major": "535"}, "driver 580 or later"),
        ({"nvidia.com/cuda.driver-version.major": "570"}, "do not have: gpu-0 (570)"),
        ({"nvidia.com/gpu.sharing-strategy": "time-slicing"}, "time-shared on gpu-0"),
        ({"nvidia.com/gpu.replicas": "4"}, "time-shared on gpu-0"),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"}, "MIG slices on gpu-0"),
    ],
)
def test_gpus_that_an_engine_cannot_use_are_a_lack(labels: dict[str, str], said: str) -> None:
    fine = {
        "nvidia.com/gpu.product": H100,
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/cuda.driver.major": "580",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.replicas": "1",
    }
    gpu = node("gpu-0")
    gpu["metadata"]["labels"] = fine
    assert list(gpu_types(MANIFESTS, having(nodes=[gpu]))) == []
    gpu["metadata"]["labels"] = fine | labels
    (found,) = of(State.missing, gpu_types(MANIFESTS, having(nodes=[gpu])))
    assert said in found.message
    gpu["spec"] = {"unschedulable": True}
    assert list(gpu_types(MANIFESTS, having(nodes=[gpu]))) == []


def test_a_config_that_is_none_is_named_by_its_field(tmp_path: Path) -> None:
    wrong = with_service(tmp_path, "variant: bf16-tp2", "variant: bf17")
    (found,) = of(State.missing, gpu_types(wrong, FACTS))
    assert "models.0.variant: unknown variant 'bf17'" in found.message


def test_a_quota_of_the_cluster_is_mended_by_a_patch() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"requests.nvidia.com/gpu": "3"}}}
    (found,) = of(State.missing, quotas(MANIFESTS, having(quotas=[quota])))
    assert "team allows 3 of requests.nvidia.com/gpu and 4 are needed" in found.message
    assert found.fix[0].startswith(f"kubectl -n {NAMESPACE} patch quota team")


def test_a_quota_without_room_for_a_second_cluster_is_a_caution() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"requests.nvidia.com/gpu": "6"}}}
    (found,) = of(State.caution, quotas(MANIFESTS, having(quotas=[quota])))
    assert "an upgrade with a second cluster needs 8" in found.message


def test_a_quota_on_limits_that_no_pod_sets_refuses_all_pods() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"limits.cpu": "500"}}}
    (found,) = of(State.missing, quotas(MANIFESTS, having(quotas=[quota])))
    assert found.message.endswith("are refused: redis, weights, head, router, engine")
    defaults = {"spec": {"limits": [{"type": "Container", "default": {"cpu": "4"}}]}}
    assert (
        of(State.missing, quotas(MANIFESTS, having(quotas=[quota], limit_ranges=[defaults]))) == []
    )
