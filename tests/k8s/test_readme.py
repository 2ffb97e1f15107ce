"""What the README says of the GPUs is what the manifests ask for."""

import re

import pytest

from serving.deploy.lint.pods import upgraded_in_steps
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of
from tests.k8s.manifests import OVERLAY_NAMES, ROOT, base, needs_kubectl, overlay

COUNT = r"(?:(\d+)[^|]*|none)"
ROW = rf"^\| (?:none: )?`([\w/-]+)` \| [^|]+ \| {COUNT} \| {COUNT} \|$"
_, _, TABLE = (ROOT / "README.md").read_text().partition("### What it costs in GPUs")
ROWS = {
    name: (int(gpus or 0), int(in_upgrade or 0))
    for name, gpus, in_upgrade in re.findall(ROW, TABLE.partition("###")[0], re.M)
}
"""GPUs of each way to deploy, and during an upgrade."""


def gpus(manifests: Manifests) -> int:
    config = config_of(manifests.service)
    entries = [(model, model.entry()) for model in config.models]
    return sum(
        model.replicas * entry.tensor_parallel_size * entry.pipeline_parallel_size
        for model, entry in entries
        if entry.accelerator == "gpu"
    )


@needs_kubectl
@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_gpus_is_true(name: str) -> None:
    manifests = base() if name == "k8s/" else overlay(name)
    strategy = manifests.service["spec"]["upgradeStrategy"]
    share = {"NewCluster": 100, "None": 0}.get(strategy["type"])
    if upgraded_in_steps(manifests.service):
        share = strategy["clusterUpgradeOptions"]["maxSurgePercent"]
    assert share is not None
    assert ROWS[name] == (gpus(manifests), gpus(manifests) * (100 + share) // 100)


def test_the_table_has_each_way_to_deploy() -> None:
    assert ROWS.keys() == {"k8s/", *OVERLAY_NAMES} - {"kueue"}
