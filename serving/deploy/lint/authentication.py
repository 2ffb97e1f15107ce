"""Rules of authentication: routers have the files with keys, and see when these change."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import groups, ray_container
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    service, settings = manifests.service, config.router.authentication
    wrong = report_on(named(service), "authentication")
    files = {"keys_file": settings.keys_file, "admin_key_file": settings.admin_key_file}
    for group in groups(service, "router"):
        mounts = ray_container(group).get("volumeMounts", ())
        # Kubernetes updates no file that is mounted by a subPath.
        folders = [PurePosixPath(mount["mountPath"]) for mount in mounts if "subPath" not in mount]
        for name, file in files.items():
            if file is not None and not any(f in PurePosixPath(file).parents for f in folders):
                yield wrong("mount", f"{group['groupName']}: no volume is at the {name} {file}")
