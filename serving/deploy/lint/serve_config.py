"""Rules of the Serve config: it is valid, for the Ray of the images, and all read the same one."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from serving.config import AppConfig
from serving.deploy.errors import BadInput
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.rules import report_on
from serving.deploy.manifests import Manifests
from serving.deploy.serve_config import config_of

VllmError = Callable[[AppConfig], str | None]
"""Returns what vLLM refuses in the vllm_args of a config; None if it takes them."""


def problems(manifests: Manifests) -> Iterator[Finding]:
    service, ray = manifests.service, version("ray")
    wrong = report_on(named(service), "serve_config")
    if str(service["spec"]["rayClusterConfig"].get("rayVersion")) != ray:
        yield wrong("ray-version", f"rayVersion is not the {ray} of the images")
    try:
        config_of(service)
        document = yaml.safe_load(service["spec"]["serveConfigV2"])
        ServeDeploySchema.model_validate(document)
    except BadInput as error:
        yield wrong("invalid", str(error))
        return
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        yield wrong("invalid", f"serveConfigV2: {field}: {first['msg']}")
        return
    if "proxy_location" not in document:
        what = "Ray runs a proxy on every node, on the routers' port"
        yield wrong("proxy-location", f"serveConfigV2 has no proxy_location: {what}")
    for config_map in manifests.of_kind("ConfigMap"):
        copy = config_map.get("data", {}).get("serve.yaml")
        if copy is not None and _parsed(copy) != document:
            yield report_on(named(config_map), "serve_config")(
                "other-config", "the weights' Job reads another config than the RayService has"
            )


def vllm_args(manifests: Manifests, config: AppConfig, vllm_error: VllmError) -> Iterator[Finding]:
    if problem := vllm_error(config):
        yield report_on(named(manifests.service), "serve_config")("vllm-args", problem)


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
