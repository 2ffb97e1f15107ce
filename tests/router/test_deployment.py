"""What a router asks of Ray Serve."""

from serving.config import RouterConfig
from serving.router import deployment
from serving.router.directory import Directory
from serving.router.model import Model
from serving.router.replica_health import HealthCheck
from serving.scaling.report import NAMES


def test_serve_waits_longer_than_the_drain() -> None:
    options = deployment.options(RouterConfig(drain_timeout_s=600))
    assert options["graceful_shutdown_timeout_s"] > 600


def test_a_new_router_is_up_before_the_old_one_stops() -> None:
    assert deployment.options(RouterConfig(replicas=1))["max_surge_percent"] >= 100


def test_a_router_reports_the_models_that_scale() -> None:
    models = [Model("org/scaled", scales=True), Model("fixed")]
    stats = deployment.reports(Directory(models, RouterConfig(), HealthCheck("token", 1)))
    assert list(stats) == [f"org/scaled/{name}" for name in NAMES]
    # What Serve 2.60 takes; it asks no more after anything else.
    assert all(isinstance(value, int | float) for value in stats.values())
