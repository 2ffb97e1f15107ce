"""Each rule of `mistral-serve deploy lint` notices what it is there for, one mistake at a time."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeDeploySchema

from serving.deploy.lint.rules import FIXES
from tests.k8s.manifests import ADD_ONS, K8S, base, cached
from tests.k8s.mistakes import (
    CONFIG,
    CONTAINER,
    ENGINE,
    RAY,
    REMOVE,
    Mistake,
    change,
    changed,
    linted,
)
from tests.k8s.rules import (
    connections,
    kuberay,
    lifecycle,
    network,
    references,
    router_data,
    security,
    serve_config,
    sizing,
)
from tests.k8s.serve_configs import with_deployment, with_engines, with_routers_fixed

MISTAKES = (
    references.MISTAKES
    | connections.MISTAKES
    | network.MISTAKES
    | kuberay.MISTAKES
    | security.MISTAKES
    | serve_config.MISTAKES
    | sizing.MISTAKES
    | lifecycle.MISTAKES
    | router_data.MISTAKES
)


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        pytest.param(rule, mistake, id=f"{rule} {mistake[1]}")
        for rule, mistakes in MISTAKES.items()
        for mistake in mistakes
    ],
)
def test_a_mistake_is_noticed(rule: str, mistake: Mistake) -> None:
    add_ons = [obj for name in ADD_ONS for obj in cached(K8S / name).objects]
    objects = copy.deepcopy([*base().objects, *add_ons])
    for each in kuberay.OF_SEVERAL_CHANGES.get(rule, [mistake]):
        change(objects, *each[:-1])
    found = [each for each in linted(objects) if each.rule == rule]
    said = [f"{each.subject}: {each.message}; {each.fix[0]}" for each in found]
    assert any(mistake[-1] in each for each in said), linted(objects)


def test_engines_that_scale_have_the_pods_of_the_least_and_room_for_the_most() -> None:
    objects = changed(RAY, CONFIG, with_engines(2, 3))
    change(objects, "ConfigMap serve-config", "data.serve~yaml", with_engines(2, 3))
    assert linted(objects) == []


@pytest.mark.parametrize(
    "config",
    [
        with_deployment("num_replicas: 3"),
        with_deployment("autoscaling_config: null, num_replicas: 3"),
        with_routers_fixed(),
    ],
)
def test_numbers_beside_args_that_fit_are_no_mistake(config: str) -> None:
    objects = changed(RAY, CONFIG, config)
    change(objects, "ConfigMap serve-config", "data.serve~yaml", config)
    assert linted(objects) == []
    assert code_version(config) == code_version(base().service["spec"]["serveConfigV2"])
    assert code_version(with_engines(3, 3)) != code_version(config)


def code_version(serve_config: str) -> str:
    """Ray Serve replaces all replicas of an application if this changes."""
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(serve_config)).applications
    return get_app_code_version(application)


def test_a_model_without_a_group_is_not_said_to_need_no_pods() -> None:
    gpus = f"{ENGINE}.{CONTAINER}.resources.limits.nvidia~com/gpu"
    rules = {finding.rule for finding in linted(changed(RAY, gpus, "1"))}
    assert "sizing/engine-gpus" in rules
    assert not {"sizing/engine-pods", "sizing/engine-spare"} & rules


def paths(value: Any, start: str = "") -> Iterator[str]:
    """All places in an object, as `change` takes them."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        path = f"{start}{str(key).replace('.', '~')}"
        yield path
        if isinstance(each, dict | list):
            yield from paths(each, f"{path}.")


@pytest.mark.parametrize("value", [REMOVE, {}, "text"], ids=["missing", "empty", "text"])
def test_a_malformed_manifest_gives_findings_and_no_exception(value: object) -> None:
    service = base().service
    for path in random.Random(0).sample(sorted(paths(service["spec"], "spec.")), 30):
        linted(changed(RAY, path, value))


def test_each_rule_has_a_mistake() -> None:
    assert FIXES.keys() == MISTAKES.keys()
