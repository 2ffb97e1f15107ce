"""The metrics that Prometheus scrapes from a router. Requests only increment plain numbers, which
are formatted when a scrape comes.

The number of series depends on the configuration alone, not on what clients send: 50 per model, one
per replica, six per tenant, four more per tenant with limits, eight per adapter, and some 35; with
a usage ledger four more per tenant.
"""

import resource
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from serving.dispatch import LimitName, Reason
from serving.ledger.entry import Entry
from serving.ledger.report import Usage
from serving.mistral.normalise import Rewrite
from serving.poison import Reason as Death
from serving.router.http.authentication import Authentication
from serving.router.replicas.directory import Directory
from serving.router.responses.store_calls import Kept
from serving.router.telemetry import objectives
from serving.router.telemetry.event_loop import EventLoopTime
from serving.router.telemetry.latency import Latency
from serving.router.telemetry.model_metrics import UNKNOWN, ModelMetrics
from serving.router.telemetry.request_record import RequestRecord
from serving.scaling import RouterLoad

if TYPE_CHECKING:
    from serving.router.ledger.ledger import Ledger

T = TypeVar("T", CounterMetricFamily, GaugeMetricFamily)

PREFIX = "mistral_serve"

QUANTILES = (0.5, 0.99)

_LATENCIES: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (
    (
        "ttft",
        "time_to_first_token",
        "Time until the first bytes of a stream were sent to the client.",
        objectives.TTFT_EDGES_S,
    ),
    (
        "itl",
        "inter_token_latency",
        "Time between the tokens of a stream, as they were sent to the client.",
        objectives.ITL_EDGES_S,
    ),
    (
        "duration",
        "request_duration",
        "Time from a request's head to the end of its answer, if it was answered.",
        objectives.DURATION_EDGES_S,
    ),
    (
        "queue",
        "queue_time",
        "Time that a request waited in the queue, whether it was placed or rejected.",
        objectives.QUEUE_EDGES_S,
    ),
)


class Metrics(Collector):
    """The metrics of one router."""

    def __init__(self, directory: Directory, authentication: Authentication) -> None:
        """Must be made in the thread of the event loop."""
        self.event_loop = EventLoopTime()
        self.load = RouterLoad()
        self._directory = directory
        self._authentication = authentication
        self._unknown = ModelMetrics()
        self._refused: dict[str, int] = dict.fromkeys(get_args(Reason), 0)
        self._rewritten: dict[str, int] = dict.fromkeys(get_args(Rewrite), 0)
        self._stored: dict[Kept, int] = dict.fromkeys(get_args(Kept), 0)
        self._tenant_requests = dict.fromkeys(authentication.tenants, 0)
        self._usage = {name: Usage() for name in authentication.tenants}
        """What the tenants have used."""
        self.ledger: Ledger | None = None
        """Set by the usage ledger, if there is one. It counts what the tenants use then."""
        self._limited = {
            (name, limit): 0
            for name, tenant in authentication.tenants.items()
            if tenant.limits is not None
            for limit in get_args(LimitName)
        }
        self._retries = self._continued = self._handed_over = 0
        self._process = psutil.Process()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def ended(self, record: RequestRecord) -> None:
        """Counts a request that has ended, from its complete record."""
        served = None if record.model is None else self._directory.models.get(record.model)
        model = self._unknown if served is None else served.metrics
        model.ended(record)
        if record.outcome == "refused" and record.error is not None:
            self._refused[record.error] += 1
        for rewrite in record.rewrites:
            self._rewritten[rewrite] += 1
        self._retries += record.retries
        self._continued += record.continued
        self._handed_over += record.handed_over
        if record.tenant is not None:
            self._tenant_requests[record.tenant] += 1
            if record.limit is not None:
                self._limited[record.tenant, record.limit] += 1
            if self.ledger is None:
                usage = self._usage[record.tenant]
                usage.input_tokens += record.input_tokens
                usage.output_tokens += record.output_tokens

    def used(self, entry: Entry) -> None:
        """Counts an entry of the usage ledger."""
        if (usage := self._usage.get(entry.tenant)) is not None:
            usage.add(entry)

    def response_kept(self, kept: Kept) -> None:
        """Counts a response that was to be stored."""
        self._stored[kept] += 1

    @property
    def chunks(self) -> int:
        """The chunks of streams that the router has relayed."""
        models = self._directory.models.values()
        return sum(len(of.metrics.ttft) + len(of.metrics.itl) for of in models)

    def exposition(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._times()
        yield from self._of_models()
        yield from self._poison()
        yield from self._of_adapters()
        yield from self._replicas()
        yield from self._by_tenant()
        yield from self._of_authentication()
        yield from self._of_process()

    def _requests(self) -> Iterator[Metric]:
        outcomes = {
            (model_id, name): count
            for model_id, served in self._directory.models.items()
            for name, count in served.metrics.outcomes.items()
        }
        outcomes |= {(UNKNOWN, name): n for name, n in self._unknown.outcomes.items() if n}
        yield _counter("requests", "Finished requests.", "model outcome", outcomes)
        yield _counter(
            "refused_requests", "Requests rejected by admission.", "reason", self._refused
        )
        yield _counter(
            "rewritten_requests", "Requests normalised for the model.", "rewrite", self._rewritten
        )
        yield _counter(
            "stored_responses", "Responses that were to be stored.", "result", self._stored
        )
        yield _counter(
            "retries", "Retries after the failure of a replica.", "", {(): self._retries}
        )
        yield _counter(
            "continued_streams", "Streams continued by another replica.", "", {(): self._continued}
        )
        yield _counter(
            "handed_over_streams",
            "Streams continued by another replica before the one that drained had ended.",
            "",
            {(): self._handed_over},
        )

    def _times(self) -> Iterator[Metric]:
        for attribute, name, documentation, edges_s in _LATENCIES:
            family = HistogramMetricFamily(
                f"{PREFIX}_{name}_seconds", documentation, labels=["model"]
            )
            for model_id, served in self._directory.models.items():
                latency: Latency = getattr(served.metrics, attribute)
                family.add_metric([model_id], latency.buckets(edges_s), latency.sum_s)
            yield family
        for attribute, name, documentation, _ in _LATENCIES[:2]:
            recent = SummaryMetricFamily(
                f"{PREFIX}_recent_{name}_seconds",
                f"{documentation} Quantiles of the last minute or two.",
            )
            for model_id, served in self._directory.models.items():
                values = getattr(served.metrics, attribute).recent(QUANTILES)
                for quantile, value in zip(QUANTILES, values, strict=True):
                    labels = {"model": model_id, "quantile": str(quantile)}
                    recent.add_sample(recent.name, labels, value)
            yield recent

    def _of_models(self) -> Iterator[Metric]:
        tokens = _counter("tokens", "Tokens read and generated.", "model type")
        expected = _counter(
            "expected_cached_tokens",
            "Prompt tokens expected to be cached, where the engine reported how many were.",
            "model",
        )
        cached = _counter("cached_tokens", "Prompt tokens that engines found cached.", "model")
        length = _gauge("queue_length", "Requests in the queue.", "model")
        replicas = _gauge("available_replicas", "Replicas that take requests.", "model")
        leaving = _gauge(
            "leaving_replicas",
            "Replicas that take no requests because they drain, or because their node goes.",
            "model",
        )
        for model_id, served in self._directory.models.items():
            of_model, labels = served.metrics, [model_id]
            tokens.add_metric([model_id, "input"], of_model.input_tokens)
            tokens.add_metric([model_id, "output"], of_model.output_tokens)
            expected.add_metric(labels, of_model.expected_cached_tokens)
            cached.add_metric(labels, of_model.cached_tokens)
            length.add_metric(labels, served.dispatcher.waiting)
            replicas.add_metric(labels, len(served.dispatcher.replicas))
            leaving.add_metric(labels, served.leaving)
        yield from (tokens, expected, cached, length, replicas, leaving)

    def _of_adapters(self) -> Iterator[Metric]:
        labels = "model adapter version"
        requests = _counter("adapter_requests", "Finished requests.", labels)
        failures = _counter(
            "adapter_failures", "Requests that failed through no fault of their client.", labels
        )
        ttft = SummaryMetricFamily(
            f"{PREFIX}_adapter_ttft_seconds", "Times to first token.", labels=labels.split()
        )
        served = _gauge("served_adapters", "Adapters that requests may ask for.", "model")
        refused = _gauge(
            "refused_adapters",
            "Declared adapters that are not served, or only in an older version.",
            "model",
        )
        for model_id, of in self._directory.models.items():
            if of.adapters is None:
                continue
            for adapter, versions in of.metrics.adapters.items():
                for version, tally in versions.items():
                    of_version = [model_id, adapter, version]
                    requests.add_metric(of_version, tally.requests)
                    failures.add_metric(of_version, tally.failures)
                    ttft.add_metric(of_version, tally.streams, tally.ttft_s)
            served.add_metric([model_id], len(of.adapters.by_name))
            refused.add_metric([model_id], len(of.adapters.refused))
        yield from (requests, failures, ttft, served, refused)

    def _poison(self) -> Iterator[Metric]:
        deaths = _counter(
            "engine_deaths",
            "Engines that died with requests of this router in their last steps.",
            "model reason",
        )
        judged = _counter(
            "poison_judged_requests", "Requests that this router found to end engines.", "model"
        )
        refused = _counter(
            "poison_refused_requests", "Requests refused because they end engines.", "model"
        )
        trials = _gauge(
            "poison_trials",
            "Suspects of an engine's death that this router has running alone.",
            "model",
        )
        for model_id, served in self._directory.models.items():
            if served.model.backend is not None:
                continue
            guard = served.trials.guard
            for reason in get_args(Death):
                deaths.add_metric([model_id, reason], guard.deaths[reason])
            judged.add_metric([model_id], guard.judged)
            refused.add_metric([model_id], served.trials.refused)
            trials.add_metric([model_id], guard.trials)
        yield from (deaths, judged, refused, trials)

    def _replicas(self) -> Iterator[Metric]:
        booked = _gauge(
            "booked_tokens",
            "KV cache tokens of a replica booked by requests of all routers.",
            "model replica",
        )
        for model_id, served in self._directory.models.items():
            for replica in served.replicas:
                booked.add_metric([model_id, replica.info.replica_id], replica.load.kv_tokens)
        yield booked

    def _by_tenant(self) -> Iterator[Metric]:
        yield _counter(
            "tenant_requests", "Finished requests of a tenant.", "tenant", self._tenant_requests
        )
        tokens = _counter("tenant_tokens", "Tokens read and generated for a tenant.", "tenant type")
        cached = _counter(
            "tenant_cached_tokens", "Prompt tokens of a tenant that engines found cached.", "tenant"
        )
        wasted = _counter(
            "tenant_wasted_tokens",
            "Tokens that engines read again, or generated for no client of the tenant.",
            "tenant type",
        )
        gpu = _counter("tenant_gpu_seconds", "Estimated GPU-seconds used for a tenant.", "tenant")
        for name, usage in self._usage.items():
            tokens.add_metric([name, "input"], usage.input_tokens)
            tokens.add_metric([name, "output"], usage.output_tokens)
            cached.add_metric([name], usage.cached_tokens)
            wasted.add_metric([name, "input"], usage.repeated_input_tokens)
            wasted.add_metric([name, "output"], usage.wasted_output_tokens)
            gpu.add_metric([name], usage.gpu_s)
        yield tokens
        if self.ledger is not None:
            yield from (cached, wasted, gpu)
            yield _gauge(
                "ledger_unwritten_entries",
                "Entries of the usage ledger that are not on the disk yet.",
                "",
                {(): self.ledger.unwritten},
            )
            yield _counter(
                "ledger_lost_entries",
                "Entries of the usage ledger given up as they could not be written.",
                "",
                {(): self.ledger.lost},
            )
        yield _counter(
            "tenant_limited_requests",
            "Requests beyond a limit of their tenant.",
            "tenant limit",
            self._limited,
        )
        yield from self._shares()

    def _shares(self) -> Iterator[Metric]:
        engine = _counter(
            "tenant_engine_seconds", "Engine time that a tenant's finished requests took.", "tenant"
        )
        waiting = _gauge("tenant_queue_length", "Requests of a tenant in the queue.", "tenant")
        weight = _gauge("tenant_weight", "Configured weight of a tenant.", "tenant")
        dispatchers = [served.dispatcher for served in self._directory.models.values()]
        for name, tenant in self._authentication.tenants.items():
            engine_ms = sum(one.fair_share.served_ms.get(name, 0.0) for one in dispatchers)
            engine.add_metric([name], engine_ms / 1000)
            waiting.add_metric([name], sum(one.waiting_of(name) for one in dispatchers))
            weight.add_metric([name], tenant.weight)
        yield from (engine, waiting, weight)

    def _of_authentication(self) -> Iterator[Metric]:
        yield _counter(
            "authentication_failures",
            "Requests without a valid API key or token.",
            "code",
            self._authentication.failures,
        )
        yield _gauge(
            "authentication_stale",
            "1 while a source of keys is unusable and those that it had before stay in force.",
            "source",
            self._authentication.stale,
        )

    def _of_process(self) -> Iterator[Metric]:
        """Yields the router's own load, and process metrics by the standard names of Prometheus'
        client libraries."""
        yield _counter(
            "event_loop_busy_seconds",
            "Time for which the event loop ran or waited for a CPU; its rate is at most 1.",
            "",
            {(): self.event_loop.busy_s()},
        )
        yield _gauge(
            "router_load",
            "Share that is used of what one router can carry, in the last two seconds.",
            "resource",
            asdict(self.load),
        )
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield CounterMetricFamily(
            "process_cpu_seconds", "User and system CPU time.", usage.ru_utime + usage.ru_stime
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory.", self._process.memory_info().rss
        )


def _counter(
    name: str, documentation: str, labels: str = "", values: Mapping[Any, float] = {}
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels.split())
    return _filled(family, values)


def _gauge(
    name: str, documentation: str, labels: str = "", values: Mapping[Any, float] = {}
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels.split())
    return _filled(family, values)


def _filled(family: T, values: Mapping[Any, float]) -> T:
    """Adds a value for each label, or for each tuple of labels: `()` if the family has none."""
    for labels, value in values.items():
        family.add_metric([labels] if isinstance(labels, str) else labels, value)
    return family
