"""The models that the router serves, by id and alias."""

from collections.abc import Iterable, Iterator

from serving.adapters.adapter import Adapter
from serving.config import RouterConfig
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.served_model import ServedModel


class Directory:
    """Looks up served models; `update` receives the live replicas of a model."""

    def __init__(self, models: Iterable[Model], config: RouterConfig, check: HealthCheck) -> None:
        self.models = {model.model_id: ServedModel(model, config, check) for model in models}
        self._by_name = dict(self.models)
        for served in self.models.values():
            for alias in served.model.aliases:
                self._by_name[alias] = served

    def find(self, name: str) -> ServedModel | None:
        return self._by_name.get(name)

    def find_adapter(self, name: str) -> tuple[ServedModel, Adapter] | None:
        """Returns the adapter of that name or alias, and its model."""
        for served in self.models.values():
            if served.adapters is not None:
                adapter = served.adapters.find(name)
                if adapter is not None:
                    return served, adapter
        return None

    def adapters_of(self, tenant: str) -> Iterator[tuple[ServedModel, Adapter]]:
        """Yields the adapters that a tenant may use, with their models."""
        for served in self.models.values():
            if served.adapters is not None:
                for adapter in served.adapters.by_name.values():
                    if adapter.declared.may_be_used_by(tenant):
                        yield served, adapter

    def update(self, model_id: str, infos: Iterable[ReplicaInfo]) -> None:
        """Replaces the live replicas of a model. Those that remain keep their connections."""
        self.models[model_id].update(infos)
