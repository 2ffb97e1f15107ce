"""The application as Ray Serve builds it from a config file."""

from pathlib import Path

import pytest
import yaml
from ray.serve import Deployment
from ray.serve.schema import ServeDeploySchema

from serving import app, config
from serving.catalogue.vllm_flags import vllm_flags
from serving.scaling import RouterScalingConfig, ScalingConfig

SERVE = Path(__file__).parents[1] / "deploy/serve"
FILES = sorted(SERVE.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_configs_are_valid_for_ray_serve_and_for_us(file: Path) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    (application,) = schema.applications
    assert application.import_path == f"{app.__name__}:{app.build.__name__}"
    assert application.name == app.NAME
    app.build(config.load(file))


def test_vllm_traces_to_the_collector_as_the_entry_would_have_it() -> None:
    entry = config.ModelConfig(model="tiny-mistral-small-3.2").entry
    assert app.traced(entry, config.TracingConfig()) == entry
    theirs = entry.model_copy(update={"env": {"OTEL_SERVICE_NAME": "mine"}})
    traced = app.traced(theirs, config.TracingConfig(otlp_endpoint="http://a:4318"))
    assert vllm_flags(traced)["otlp-traces-endpoint"] == "http://a:4318/v1/traces"
    assert traced.env == {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "mine",
    }


def test_serve_scales_the_models_that_ask_for_it() -> None:
    fixed = config.ModelConfig(model="tiny-mistral-small-3.2", replicas=3)
    scaled = config.ModelConfig(
        model="tiny-mistral-small-3.2",
        autoscaling=ScalingConfig(min_replicas=0, max_replicas=4),
    )
    router = config.RouterConfig(replicas=2)
    assert app.replicas(fixed.entry, fixed, router) == {"num_replicas": 3}
    serves = app.replicas(scaled.entry, scaled, router)["autoscaling_config"]
    assert (serves.min_replicas, serves.max_replicas) == (0, 4)

    def routers(model: config.ModelConfig) -> Deployment:
        return app.build(config.AppConfig(router=router, models=(model,)))._bound_deployment

    assert routers(fixed).num_replicas == 2
    assert routers(fixed)._deployment_config.autoscaling_config is None
    asked_to_report = routers(scaled)._deployment_config.autoscaling_config
    assert asked_to_report is not None
    assert (asked_to_report.min_replicas, asked_to_report.max_replicas) == (2, 2)


def test_serve_scales_the_routers_where_no_model_scales() -> None:
    router = config.RouterConfig(autoscaling=RouterScalingConfig(max_replicas=4))
    model = config.ModelConfig(model="tiny-mistral-small-3.2", replicas=3)
    built = app.build(config.AppConfig(router=router, models=(model,)))._bound_deployment
    serves = built._deployment_config.autoscaling_config
    assert serves is not None
    assert (serves.min_replicas, serves.max_replicas) == (2, 4)
    assert serves.upscale_delay_s == serves.downscale_delay_s == 0
    assert serves.policy.policy_kwargs == {"min_replicas": 2, "max_replicas": 4, "idle_s": 300}


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3-2-24b-instruct-2506"),
        ("plain", "plain"),
    ],
)
def test_deployment_names_hold_what_kubernetes_allows(model_id: str, name: str) -> None:
    assert app.deployment_name(model_id) == f"Engine-{name}"
