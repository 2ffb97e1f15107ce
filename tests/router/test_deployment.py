"""What a router asks of Ray Serve."""

from serving.config import RouterConfig
from serving.router import deployment


def test_serve_waits_longer_than_the_drain() -> None:
    options = deployment.options(RouterConfig(drain_timeout_s=600))
    assert options["graceful_shutdown_timeout_s"] > 600


def test_a_new_router_is_up_before_the_old_one_stops() -> None:
    assert deployment.options(RouterConfig(replicas=1))["max_surge_percent"] >= 100
