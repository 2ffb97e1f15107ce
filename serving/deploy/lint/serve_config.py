"""Rules of the Serve config: it is valid, for the Ray of the images, and all read the same one."""

from collections.abc import Iterator
from importlib.metadata import version

import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from serving.deploy.errors import BadInput
from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, report_on
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of

_KEY = "serve.yaml"
INVALID = "serve_config/invalid"


def problems(manifests: Manifests) -> Iterator[Finding]:
    service = manifests.service
    wrong = report_on(named(service), "serve_config")
    ray = version("ray")
    if str(service["spec"]["rayClusterConfig"].get("rayVersion")) != ray:
        yield wrong(
            "ray-version", f"rayVersion is not the {ray} of the images", f"set rayVersion: {ray}"
        )
    fix = "correct the file in deploy/serve/, then `make manifests`"
    try:
        config_of(service)
        document = yaml.safe_load(service["spec"]["serveConfigV2"])
        ServeDeploySchema.model_validate(document)
    except BadInput as error:
        yield wrong("invalid", str(error), fix)
        return
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        yield wrong("invalid", f"serveConfigV2: {field}: {first['msg']}", fix)
        return
    for config_map in manifests.of_kind("ConfigMap"):
        copy = config_map.get("data", {}).get(_KEY)
        if copy is not None and _parsed(copy) != document:
            yield report_on(named(config_map), "serve_config")(
                "other-config",
                "the weights' Job reads another config than the RayService has",
                "run `make manifests`, or patch both alike",
            )


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
