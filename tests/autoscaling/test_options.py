import warnings

import pytest
from ray.serve._private.config import DeploymentConfig

from serving.autoscaling import options
from serving.scaling import ScalingConfig


def test_serve_adds_no_delay_and_no_factor_of_its_own() -> None:
    config = options.of_model("m", ScalingConfig(min_replicas=0, max_replicas=4), 120)[
        "autoscaling_config"
    ]
    assert (config.min_replicas, config.max_replicas) == (0, 4)
    assert config.upscale_delay_s == config.downscale_delay_s == 0
    assert config.downscale_to_zero_delay_s == 0
    assert config.get_upscaling_factor() == config.get_downscaling_factor() == 1
    # A change of the config would else start with as many.
    assert config.initial_replicas is None


def test_the_routers_are_as_many_as_configured() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = options.of_routers(3)["autoscaling_config"]
    assert (config.min_replicas, config.max_replicas) == (3, 3)


@pytest.mark.parametrize(
    "config",
    [
        ScalingConfig(min_replicas=0, max_replicas=4, prefill_utilization=0.7, idle_s=30),
        ScalingConfig(max_replicas=1),
    ],
)
def test_the_policy_has_its_config_where_the_controller_reads_it(config: ScalingConfig) -> None:
    asked = DeploymentConfig(**options.of_model("m", config, 120))
    sent = asked.to_proto_bytes()  # type: ignore[no-untyped-call]
    policy = DeploymentConfig.from_proto_bytes(sent).autoscaling_config.policy
    scaler = policy.get_policy()(**policy.policy_kwargs)._autoscaler._scaler
    assert scaler._config == config
