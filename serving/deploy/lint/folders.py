"""Rules of what routers keep in folders: on volumes that outlive their pods, and that all share."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import groups, max_replicas, ray_container
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    router = config.router
    wrong = report_on(named(manifests.service), "folders")
    if router.batches.max_bytes and router.batches.folder is None:
        yield wrong("batches", "router.batches has no folder: each router would have its own files")
    folders = {
        "router.batches.folder": router.batches.folder if router.batches.max_bytes else None,
        "router.ledger.folder": router.ledger.folder if router.ledger.keep_days else None,
    }
    modes = {
        claim["metadata"]["name"]: claim["spec"].get("accessModes", ())
        for claim in manifests.of_kind("PersistentVolumeClaim")
    }
    for group in groups(manifests.service, "router"):
        for setting, folder in folders.items():
            if folder is None:
                continue
            where = f"{group['groupName']}: the {setting} {folder}"
            claim = _claim_at(PurePosixPath(folder), group)
            if claim is None:
                yield wrong("no-volume", f"{where} is on no volume that the pods may write")
            elif "ReadWriteMany" not in modes.get(claim, ["ReadWriteMany"]) and (
                max_replicas(group) > 1
            ):
                yield wrong("one-node", f"{where} is on the claim {claim}, for pods of one node")


def _claim_at(folder: PurePosixPath, group: dict[str, Any]) -> str | None:
    """Returns the claim in which a group's pods may write this folder."""
    volumes = {each["name"]: each for each in group["template"]["spec"].get("volumes", ())}
    for mount in ray_container(group).get("volumeMounts", ()):
        claim = volumes.get(mount["name"], {}).get("persistentVolumeClaim")
        if claim is None or mount.get("readOnly") or claim.get("readOnly"):
            continue
        if PurePosixPath(mount["mountPath"]) in (folder, *folder.parents):
            return str(claim["claimName"])
    return None
