"""The application as Ray Serve builds it from a config file."""

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serving import app, config

SERVE = Path(__file__).parents[1] / "deploy/serve"
FILES = sorted(SERVE.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_configs_are_valid_for_ray_serve_and_for_us(file: Path) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    (application,) = schema.applications
    assert application.import_path == f"{app.__name__}:{app.build.__name__}"
    assert application.name == app.NAME
    app.build(config.load(file))


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3-2-24b-instruct-2506"),
        ("plain", "plain"),
    ],
)
def test_deployment_names_hold_what_kubernetes_allows(model_id: str, name: str) -> None:
    assert app.deployment_name(model_id) == f"Engine-{name}"
