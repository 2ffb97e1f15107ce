"""Whether the cluster has storage for the claims of the manifests."""

import re
from collections.abc import Iterator

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import claims

_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_ONE_NODE = re.compile(
    r"(^|\.)(ebs\.csi(\.eks)?\.\w+\.com|pd\.csi\.storage\.gke\.io|disk\.csi\.azure\.com"
    r"|cinder\.csi\.openstack\.org|rbd\.csi\.ceph\.com|csi\.vsphere\.vmware\.com|topolvm\.(io|cybozu\.com)"
    r"|csi\.hetzner\.cloud|dobs\.csi\.digitalocean\.com|linodebs\.csi\.linode\.com)$"
    r"|^kubernetes\.io/(aws-ebs|gce-pd|azure-disk|cinder|rbd|vsphere-volume)$"
    r"|/(local-path|k8s\.io/minikube-hostpath|minikube-hostpath|local)$"
)
"""Provisioners of disks that only one node can mount at a time."""
_SETS_GROUP = "File"
"""The fsGroupPolicy of CSI drivers that give a shared file system the pod's group."""


def storage(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    if facts.storage_classes is None:
        yield unknown("storage", "list storage classes", "kubectl get storageclass")
        return
    classes = {each["metadata"]["name"]: each for each in facts.storage_classes}
    default = next((each for each in classes.values() if _is_default(each)), None)
    bound = {
        claim["metadata"]["name"]: claim
        for claim in facts.volume_claims or ()
        if (claim.get("status") or {}).get("phase") == "Bound"
    }
    good = True
    for claim in claims(manifests.objects):
        name, spec = claim["metadata"]["name"], claim["spec"]
        named = spec.get("storageClassName")
        if name in bound or spec.get("volumeName") or named == "":
            continue
        found = default if named is None else classes.get(named)
        if found is None:
            good = False
            yield _no_class(name, named, sorted(classes))
        elif "ReadWriteMany" not in spec.get("accessModes", ()):
            continue
        elif _ONE_NODE.search(found["provisioner"]):
            good = False
            yield missing(
                "storage",
                f"claim {name} is ReadWriteMany, and storage class {found['metadata']['name']} "
                f"({found['provisioner']}) provisions disks for one node",
                f"set storageClassName of claim {name} to a class of shared file systems (NFS, "
                "CephFS, EFS, Filestore)",
            )
        elif _ignores_group(found["provisioner"], facts):
            yield caution(
                "storage",
                f"claim {name}: {found['provisioner']} does not give the volume the pods' group, "
                "so its folder must be writable by their user, 1000",
                f'in storage class {found["metadata"]["name"]}: mountPermissions: "0777" for NFS, '
                'provisioningMode: efs-ap with uid and gid "1000" for EFS; or chown the folder',
            )
    if len([each for each in classes.values() if _is_default(each)]) > 1:
        yield caution("storage", "more than one storage class is the default",
                      "kubectl get storageclass")  # fmt: skip
    if good:
        yield ok("storage", "each claim has a storage class")


def _ignores_group(provisioner: str, facts: Facts) -> bool:
    """Whether a CSI driver leaves the owner of a shared file system as it is, by its CSIDriver."""
    policies = {
        each["metadata"]["name"]: each["spec"].get("fsGroupPolicy")
        for each in facts.csi_drivers or ()
    }
    return bool(policies.get(provisioner, _SETS_GROUP) != _SETS_GROUP)


def _no_class(claim: str, named: str | None, classes: list[str]) -> Finding:
    there = f"there are: {', '.join(classes)}" if classes else "the cluster has none"
    if named is not None:
        return missing(
            "storage",
            f"claim {claim} names storage class {named}, which does not exist; {there}",
            "kubectl get storageclass",
        )
    fix = f"set storageClassName of claim {claim}"
    if classes:
        annotation = f'{{"metadata":{{"annotations":{{"{_DEFAULT}":"true"}}}}}}'
        fix += f", or: kubectl patch storageclass {classes[0]} -p '{annotation}'"
    else:
        fix = "install a provisioner of shared file systems, such as csi-driver-nfs"
    return missing("storage", f"claim {claim} uses the default storage class and there is none; "
                   f"{there}", fix)  # fmt: skip


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return str(annotations.get(_DEFAULT)).lower() == "true"
