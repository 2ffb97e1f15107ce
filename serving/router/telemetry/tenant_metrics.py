"""The counters that a router has for one tenant."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric

from serving.ledger.entry import Entry
from serving.router.telemetry.request_record import RequestRecord

_FAMILIES: tuple[tuple[str, str, str | None, bool], ...] = (
    ("tenant_requests", "Finished requests of a tenant.", None, False),
    ("tenant_tokens", "Tokens read and generated for a tenant.", "input output", False),
    ("tenant_cached_tokens", "Prompt tokens of a tenant that engines found cached.", None, True),
    (
        "tenant_wasted_tokens",
        "Tokens that engines read again, or generated for no client of the tenant.",
        "input output",
        True,
    ),
    ("tenant_gpu_seconds", "Estimated GPU-seconds used for a tenant.", None, True),
)
"""Names of counters, the values of `type`, and whether only the usage ledger has them."""


class TenantMetrics:
    """Monotonic counters of one tenant."""

    __slots__ = (
        "cached_tokens",
        "gpu_s",
        "input_tokens",
        "output_tokens",
        "repeated_input_tokens",
        "requests",
        "wasted_output_tokens",
    )

    def __init__(self) -> None:
        self.requests = self.input_tokens = self.output_tokens = self.cached_tokens = 0
        self.repeated_input_tokens = self.wasted_output_tokens = 0
        self.gpu_s = 0.0

    def used(self, usage: Entry | RequestRecord) -> None:
        """Counts the tokens of a request that has ended."""
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        if isinstance(usage, Entry):
            self.cached_tokens += usage.cached_tokens
            self.repeated_input_tokens += usage.repeated_input_tokens
            self.wasted_output_tokens += usage.wasted_output_tokens
            self.gpu_s += usage.gpu_s

    def values(self) -> Iterable[tuple[float, ...]]:
        """Returns the values of `_FAMILIES`."""
        return (
            (self.requests,),
            (self.input_tokens, self.output_tokens),
            (self.cached_tokens,),
            (self.repeated_input_tokens, self.wasted_output_tokens),
            (self.gpu_s,),
        )


def families(
    prefix: str, tenants: Mapping[str, TenantMetrics], has_ledger: bool
) -> Iterator[Metric]:
    """Yields the metrics of all tenants, by their names."""
    of_tenants = {name: list(metrics.values()) for name, metrics in tenants.items()}
    for index, (name, documentation, types, of_ledger) in enumerate(_FAMILIES):
        if of_ledger and not has_ledger:
            continue
        labels = ["tenant"] if types is None else ["tenant", "type"]
        family = CounterMetricFamily(f"{prefix}_{name}", documentation, labels=labels)
        for tenant, values in of_tenants.items():
            if types is None:
                family.add_metric([tenant], values[index][0])
                continue
            for kind, value in zip(types.split(), values[index], strict=True):
                family.add_metric([tenant, kind], value)
        yield family
