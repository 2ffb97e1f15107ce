"""The application as serving.app builds it, with a stand-in for vLLM in its engines, and routers
that carry no more than a test can send."""

import sys
from typing import Any, cast
from unittest.mock import patch

from ray import serve
from ray.serve import Application

from serving import app
from serving.catalogue import CatalogueEntry
from serving.catalogue.vllm_flags import vllm_flags
from serving.config import AppConfig
from serving.engine.deployment import Engine
from serving.mistral import ModelRules
from serving.router.deployment import Router
from serving.scaling import router_load


class StandInEngine(Engine):
    """The real replica, with a stand-in for its vLLM module."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        entry: CatalogueEntry,
        rules: ModelRules,
        host: str | None,
        drain_timeout_s: float,
    ) -> None:
        from tests.faults import stand_in_vllm

        sys.modules["serving.engine.vllm.server"] = stand_in_vllm
        await super().__init__(entry, rules, host, drain_timeout_s)

    def _vllm_args(self, entry: CatalogueEntry) -> dict[str, Any]:
        return vllm_flags(entry)


class SmallRouter(Router):
    """The real router, as if it carried few connections."""

    max_connections = 115

    async def __init__(self, *args: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        router_load.MAX_CONNECTIONS = self.max_connections
        await super().__init__(*args)


SmallRouterDeployment = cast(serve.Deployment, serve.deployment(SmallRouter))
Deployment = cast(serve.Deployment, serve.deployment(StandInEngine))


def build(config: AppConfig) -> Application:
    with (
        patch("serving.app.engine.Deployment", Deployment),
        patch("serving.app.router.Deployment", SmallRouterDeployment),
    ):
        return app.build(config)
