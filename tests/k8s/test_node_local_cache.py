"""Weights on a disk of each node, claimed without a hostPath in any pod."""

from serving.deploy.lint.pods import groups
from tests.k8s.manifests import needs_kubectl, overlay, the

pytestmark = needs_kubectl


def test_the_claim_is_of_the_volume_that_each_node_has() -> None:
    manifests = overlay("node-local-cache")
    volume = the(manifests, "PersistentVolume", "mistral-serve-models")["spec"]
    claim = the(manifests, "PersistentVolumeClaim", "models")
    assert claim["spec"]["volumeName"] == "mistral-serve-models"
    assert claim["spec"]["storageClassName"] == volume["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == volume["accessModes"]
    assert volume["claimRef"] == {"namespace": "mistral-serve", "name": "models"}


def test_an_engine_fetches_what_its_node_lacks_into_where_vllm_looks() -> None:
    manifests = overlay("node-local-cache")
    assert not manifests.of_kind("Job")
    (group,) = groups(manifests.service, "engine")
    spec = group["template"]["spec"]
    (init,), (engine, *_) = spec["initContainers"], spec["containers"]
    assert "--wait" not in init["command"]
    (mount,) = [each for each in init["volumeMounts"] if each["name"] == "kernels"]
    home = {each["name"]: each.get("value") for each in engine["env"]}["HF_HOME"]
    assert {"name": "HF_HOME", "value": f"{mount['mountPath']}/huggingface"} in init["env"]
    assert home == "/models/huggingface"
    policy = the(manifests, "NetworkPolicy", "weights-from-internet")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "engine"
