"""What the README says of the GPUs is what the manifests ask for."""

import re

import pytest

from tests.k8s.manifests import (
    OVERLAY_NAMES,
    OVERLAYS,
    ROOT,
    Object,
    base,
    in_steps,
    kustomized,
    needs_kubectl,
    the,
)
from tests.k8s.serving import serve_config

COUNT = r"(?:(\d+)[^|]*|none)"
ROW = rf"^\| (?:none: )?`([\w/-]+)` \| [^|]+ \| {COUNT} \| {COUNT} \|$"
_, _, TABLE = (ROOT / "README.md").read_text().partition("### What it costs in GPUs")
ROWS = {
    name: (int(gpus or 0), int(in_upgrade or 0))
    for name, gpus, in_upgrade in re.findall(ROW, TABLE.partition("###")[0], re.M)
}
"""GPUs of each way to deploy, and during an upgrade."""


def gpus(objects: list[Object]) -> int:
    config = serve_config(the(objects, "RayService"))
    entries = [(model, model.entry()) for model in config.models]
    return sum(
        model.replicas * entry.tensor_parallel_size * entry.pipeline_parallel_size
        for model, entry in entries
        if entry.accelerator == "gpu"
    )


@needs_kubectl
@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_gpus_is_true(name: str) -> None:
    objects = base() if name == "k8s/" else kustomized(OVERLAYS / name)
    rayservice = the(objects, "RayService")
    strategy = rayservice["spec"]["upgradeStrategy"]
    share = {"NewCluster": 100, "None": 0}.get(strategy["type"])
    if in_steps(rayservice):
        share = strategy["clusterUpgradeOptions"]["maxSurgePercent"]
    assert share is not None
    assert ROWS[name] == (gpus(objects), gpus(objects) * (100 + share) // 100)


def test_the_table_has_each_way_to_deploy() -> None:
    assert ROWS.keys() == {"k8s/", *OVERLAY_NAMES} - {"kueue"}
