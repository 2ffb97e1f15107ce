"""Rules of `deployments` in the Serve config: what stands beside args counts in place of it."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ray.serve.schema import DeploymentSchema

from serving.app import ROUTER, deployment_name
from serving.config import AppConfig
from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.rules import report_on
from serving.deploy.objects import Object
from serving.scaling import RouterScalingConfig, ScalingConfig


def problems(service: Object, config: AppConfig) -> Iterator[Finding]:
    wrong = report_on(named(service), "deployments")
    engines = _engines(config)
    scaled = {name for name, index in engines.items() if config.models[index].autoscaling}
    engines_scale = bool(scaled)
    if scaled or config.router.autoscaling:
        scaled.add(ROUTER)  # with a fixed number too, as it reports the load of engines then
    for number, options in enumerate(_deployments(service)):
        name, where = options["name"], f"deployments[{number}]"
        for field in options.keys() - DeploymentSchema.model_fields.keys():
            yield wrong("field", f"{where}.{field} is no option of a deployment, and is ignored")
        if name not in {ROUTER, *engines}:
            known = ", ".join([ROUTER, *engines])
            yield wrong("name", f"{where}.name: the application has no {name}, but {known}")
        elif options.get("autoscaling_config") or options.get("num_replicas") == "auto":
            what = "takes the place of the application's own policy of scaling"
            yield wrong("autoscaling", f"{where}: autoscaling of {name} {what}")
        elif "autoscaling_config" in options and name == ROUTER and engines_scale:
            what = "ends the routers' reports of load, by which engines scale"
            yield wrong("autoscaling", f"{where}: autoscaling_config of {name} {what}")
        elif "num_replicas" in options and name in scaled and "autoscaling_config" not in options:
            what = "has no effect beside autoscaling"
            yield wrong("num-replicas", f"{where}: num_replicas of {name} {what}")


def sized(service: Object, config: AppConfig) -> AppConfig:
    """Returns the config with the numbers of replicas that Serve takes from `deployments`."""
    options = {each["name"]: each for each in _deployments(service)}
    models = list(config.models)
    for name, index in _engines(config).items():
        update = _numbers(options.get(name, {}), ScalingConfig)
        models[index] = models[index].model_copy(update=update)
    router = config.router.model_copy(update=_numbers(options.get(ROUTER, {}), RouterScalingConfig))
    return config.model_copy(update={"router": router, "models": tuple(models)})


def _numbers(
    options: Mapping[str, Any], bounds: type[ScalingConfig] | type[RouterScalingConfig]
) -> dict[str, Any]:
    """Returns the settings of a model or the router that these options replace."""
    if scaling := options.get("autoscaling_config"):
        least, most = scaling.get("min_replicas", 1), scaling.get("max_replicas", 1)
        # Not validated: Serve takes bounds that the application's own policy would not.
        return {"autoscaling": bounds.model_construct(min_replicas=least, max_replicas=most)}
    fixed: dict[str, Any] = {"autoscaling": None} if "autoscaling_config" in options else {}
    count = options.get("num_replicas")
    return fixed | ({"replicas": count} if isinstance(count, int) else {})


def _engines(config: AppConfig) -> dict[str, int]:
    """Returns the deployments of the models that run here, and the place of each model."""
    return {
        deployment_name(model.entry.id): index
        for index, model in enumerate(config.models)
        if model.entry.kind == "vllm"
    }


def _deployments(service: Object) -> list[Object]:
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    return application.get("deployments") or []
