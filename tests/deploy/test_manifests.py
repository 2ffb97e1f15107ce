"""What `make manifests` writes."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from deploy import manifests

ROOT = Path(__file__).parents[2]


def test_the_generated_files_are_what_is_committed() -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in manifests.generated(ROOT).items()
        if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run `make manifests`"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("k8s", "deploy/serve", "deploy/overlays"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "dashboards/rules").mkdir(parents=True)
    return tmp_path


def test_a_changed_serve_config_comes_into_the_service_and_the_job(checkout: Path) -> None:
    config = "applications:\n  - name: other\n\n    args: {models: []}\n"
    (checkout / "deploy/serve/production.yaml").write_text(config)
    files = manifests.generated(checkout)
    rayservice = files[checkout / "k8s/40-rayservice.yaml"]
    assert yaml.safe_load(rayservice)["spec"]["serveConfigV2"] == config
    before = (ROOT / "k8s/40-rayservice.yaml").read_text()
    assert rayservice.partition("serveConfigV2")[0] == before.partition("serveConfigV2")[0]
    assert rayservice.partition("  upgradeStrategy")[2] == before.partition("  upgradeStrategy")[2]
    config_map = yaml.safe_load(files[checkout / "k8s/30-serve-config.yaml"])
    assert config_map["data"] == {"serve.yaml": config}
    (checkout / "k8s/40-rayservice.yaml").write_text(rayservice)
    assert manifests.generated(checkout) == files


def test_dashboards_become_config_maps_that_grafana_finds(checkout: Path) -> None:
    for name in ("service", "scaling_cost"):
        (checkout / f"dashboards/{name}.json").write_text(
            json.dumps({"title": f"{name} é"}, indent=4)
        )
    text = manifests.generated(checkout)[checkout / "k8s/60-dashboards.yaml"]
    scaling, service = yaml.safe_load_all(text)
    assert scaling["metadata"]["name"] == "dashboard-scaling-cost"
    assert service["metadata"]["namespace"] == "mistral-serve"
    assert service["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(service["data"]["service.json"]) == {"title": "service é"}


def test_a_dashboard_too_large_for_kubectl_apply_is_refused(checkout: Path) -> None:
    (checkout / "dashboards/huge.json").write_text(json.dumps({"title": "x" * 260_000}))
    with pytest.raises(manifests.TooLargeError, match="huge"):
        manifests.generated(checkout)


def test_rules_become_one_prometheus_rule(checkout: Path) -> None:
    for name in ("alerts", "slo"):
        group = {"name": name, "rules": [{"record": f"{name}:x", "expr": "vector(1)"}]}
        (checkout / f"dashboards/rules/{name}.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    text = manifests.generated(checkout)[checkout / "k8s/monitoring/20-rules.yaml"]
    rule = yaml.safe_load(text)
    assert rule["kind"] == "PrometheusRule"
    assert [group["name"] for group in rule["spec"]["groups"]] == ["alerts", "slo"]
