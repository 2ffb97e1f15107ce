"""Rules of authentication and TLS: routers have the files of the settings, and see them change."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import groups, ray_container
from serving.deploy.lint.references import SECRETS
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object


def problems(manifests: Manifests, config: AppConfig) -> Iterator[Finding]:
    service = manifests.service
    wrong = report_on(named(service), "authentication")
    for group in groups(service, "router"):
        mounts = ray_container(group).get("volumeMounts", ())
        # Kubernetes updates no file that is mounted by a subPath.
        mounted = [
            (PurePosixPath(mount["mountPath"]), mount["name"])
            for mount in mounts
            if "subPath" not in mount
        ]
        volumes = {each["name"]: each for each in group["template"]["spec"].get("volumes", ())}
        for name, file in _files(config).items():
            above = [each for each in mounted if each[0] in PurePosixPath(file).parents]
            if not above:
                yield wrong("mount", f"{group['groupName']}: no volume is at the {name} {file}")
                continue
            folder, volume = max(above, key=lambda each: len(each[0].parts))
            has = _files_in(volumes.get(volume, {}), manifests)
            if has is not None and str(PurePosixPath(file).relative_to(folder)) not in has:
                what = f"the volume {volume} has {', '.join(sorted(has))}, not the {name} {file}"
                yield wrong("file", f"{group['groupName']}: {what}")


def _files(config: AppConfig) -> dict[str, str]:
    """The files that the routers read and reread, by the settings that name them."""
    settings, tls = config.router.authentication, config.router.tls
    files = {"keys_file": settings.keys_file, "admin_key_file": settings.admin_key_file}
    if tls is not None:
        files |= {"tls.certificate_file": tls.certificate_file, "tls.key_file": tls.key_file}
    return {name: file for name, file in files.items() if file is not None}


def _files_in(volume: Object, manifests: Manifests) -> set[str] | None:
    """Returns the files of a volume of Secrets and ConfigMaps; None where no manifest tells."""
    files: set[str] = set()
    for source in volume.get("projected", {}).get("sources", [volume]):
        if "secret" in source:
            secret = source["secret"]
            name = secret.get("secretName", secret.get("name"))
            keys = {SECRETS[name]} if name in SECRETS else None
            items = secret.get("items")
        elif "configMap" in source:
            name, items = source["configMap"]["name"], source["configMap"].get("items")
            maps = {obj["metadata"]["name"]: obj for obj in manifests.of_kind("ConfigMap")}
            keys = set(maps[name].get("data", {})) if name in maps else None
        else:
            return None
        found = {item["path"] for item in items} if items else keys
        if found is None:
            return None
        files |= found
    return files
