"""Variables that the reader of a dashboard sets above the panels."""

from grafana_foundation_sdk.builders.dashboard import (
    DatasourceVariable,
    QueryVariable,
    TextBoxVariable,
)
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from dashboards.generate.panel import DATASOURCE

Variable = DatasourceVariable | QueryVariable | TextBoxVariable


def _label_values(name: str, label: str, series: str) -> QueryVariable:
    """The values of the label `name`. "All" includes series that do not have the label."""
    query = {
        "qryType": 1,
        "query": f"label_values({series}, {name})",
        "refId": "PrometheusVariableQueryEditor",
    }
    return (
        QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(VariableOption(text=["All"], value=["$__all"]))
    )


PROMETHEUS = DatasourceVariable("datasource").label("Prometheus").type("prometheus")
NAMESPACE = _label_values("namespace", "Namespace", "mistral_serve_requests_total")
MODEL = _label_values("model", "Model", 'mistral_serve_available_replicas{namespace=~"$namespace"}')
REPLICA = _label_values(
    "replica", "Replica", 'mistral_serve_booked_tokens{namespace=~"$namespace",model=~"$model"}'
)
TENANT = _label_values(
    "tenant", "Tenant", 'mistral_serve_tenant_requests_total{namespace=~"$namespace"}'
)
PRICE = (
    TextBoxVariable("usd_per_gpu_hour")
    .label("USD per GPU-hour")
    .default_value("2.50")
    .current(VariableOption(text="2.50", value="2.50"))
)
