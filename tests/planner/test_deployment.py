from pathlib import Path

import pytest

from serving import catalogue, config
from serving.planner.deployment import config as config_of

SMALL = "mistral-small-3.2-24b-instruct-2506"


@pytest.mark.parametrize("gpu", ["L40S", "H100-80GB"])
@pytest.mark.parametrize("replicas", [(2, 2), (2, 5)])
def test_the_config_is_one_of_the_service(
    tmp_path: Path, gpu: str, replicas: tuple[int, int]
) -> None:
    file = catalogue.read(SMALL)
    entry = file.entry("fp8").on(gpu=gpu, tensor_parallel_size=2, context_tokens=65_536)
    path = tmp_path / "plan.yaml"
    path.write_text(config_of(SMALL, file, entry, *replicas, prefill=0.366))
    (model,) = config.load(path).models
    served = model.entry
    assert (served.gpu, served.tensor_parallel_size) == (gpu, 2)
    assert (served.variant, served.context_tokens) == ("fp8", 65_536)
    assert (model.least_replicas, model.most_replicas) == replicas
    assert model.autoscaling is None or model.autoscaling.prefill_utilization == 0.37


def test_what_is_as_in_the_catalogue_is_not_said_again() -> None:
    file = catalogue.read(SMALL)
    assert "context_tokens" not in config_of(SMALL, file, file.entry("fp8"), 1, 1, 0.5)
