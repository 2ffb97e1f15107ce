"""Compiled kernels outlive a pod: they lie on the claim of the weights."""

import pytest

from serving.deploy.lint.pods import groups
from serving.engine import kernel_cache
from tests.k8s.manifests import OVERLAY_PARAMETERS, base, overlay


@pytest.mark.parametrize("name", [None, *OVERLAY_PARAMETERS])
def test_engines_keep_kernels_on_a_claim_that_they_may_write(name: str | None) -> None:
    service = (base() if name is None else overlay(name)).service
    for group in groups(service, "engine"):
        spec = group["template"]["spec"]
        container = spec["containers"][0]
        root = {each["name"]: each.get("value") for each in container["env"]}[kernel_cache.ROOT]
        (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == root]
        (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
        assert volume["persistentVolumeClaim"] == {"claimName": "models"}
        # The weights stay what they are.
        assert mount["subPath"] and "readOnly" not in mount
