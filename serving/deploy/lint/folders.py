"""Rules of volumes that outlive pods: routers keep their folders there, and all pods share them."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import Pod, groups, namespace_of, pods, ray_container
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    router = config.router
    wrong = report_on(named(manifests.service), "folders")
    if router.batches.max_bytes and router.batches.folder is None:
        yield wrong("batches", "router.batches has no folder: each router would have its own files")
    folders = {
        "router.batches.folder": router.batches.folder if router.batches.max_bytes else None,
        "router.ledger.folder": router.ledger.folder if router.ledger.keep_days else None,
    }
    for group in groups(manifests.service, "router"):
        for setting, folder in folders.items():
            if folder is None:
                continue
            where = f"{group['groupName']}: the {setting} {folder}"
            if not _is_kept(PurePosixPath(folder), group):
                yield wrong("no-volume", f"{where} is on no volume that the pods may write")
    for claim in manifests.of_kind("PersistentVolumeClaim"):
        yield from _nodes(claim, pods(manifests))


def _nodes(claim: Object, everyone: list[Pod]) -> Iterator[Finding]:
    """Checks that a claim which several pods mount is not for those of one node."""
    name = claim["metadata"]["name"]
    users = [
        pod
        for pod in everyone
        for volume in pod.spec.get("volumes", ())
        if volume.get("persistentVolumeClaim", {}).get("claimName") == name
        if pod.namespace == namespace_of(claim)
    ]
    modes = claim["spec"].get("accessModes", ())
    if not {"ReadWriteMany", "ReadOnlyMany"} & set(modes) and sum(p.most for p in users) > 1:
        who = ", ".join(dict.fromkeys(pod.owner.rpartition(", ")[2] for pod in users))
        yield report_on(named(claim), "folders")("one-node", f"is for pods of one node, not {who}")


def _is_kept(folder: PurePosixPath, group: Object) -> bool:
    """Whether a group's pods may write this folder in a claim."""
    volumes = {each["name"]: each for each in group["template"]["spec"].get("volumes", ())}
    for mount in ray_container(group).get("volumeMounts", ()):
        claim = volumes.get(mount["name"], {}).get("persistentVolumeClaim")
        if claim is None or mount.get("readOnly") or claim.get("readOnly"):
            continue
        if PurePosixPath(mount["mountPath"]) in (folder, *folder.parents):
            return True
    return False
