"""Troubles of a service, and the alerts that fire in each."""

from dataclasses import dataclass, field

from tests.dashboards.series import (
    AT_MAX,
    BOOKED,
    CERTIFICATE,
    EVENT_LOOP,
    HEAD_MEMORY_USED,
    ITL_S,
    JUDGED,
    NOT_STORED,
    OTHER_CERTIFICATE,
    OTHER_ROUTER,
    QUEUE_S,
    REDIS,
    REFUSED_ADAPTERS,
    ROUTER_UP,
    STALE,
    STEADY,
    TTFT_S,
    UNWRITTEN,
    decided,
    of_engine,
    of_router,
    outcome,
    status,
    volume,
    within,
)

AVAILABILITY, TTFT, ITL = (
    {f"Mistral{name}Burn {severity}" for severity in ("critical", "warning")}
    for name in ("Availability", "Ttft", "Itl")
)
"""A fast burn fires over long windows too; Alertmanager inhibits the warning."""


@dataclass(frozen=True)
class Case:
    trouble: str
    """What goes wrong, and the name of the case."""
    changed: dict[str, str] = field(default_factory=dict)
    """Series that replace those of STEADY."""
    fires: set[str] = field(default_factory=set)
    """All alerts that fire, each as `name severity`."""
    minutes: int = 40
    interval_minutes: int = 1
    missing: tuple[str, ...] = ()
    """Series of STEADY that do not exist."""


BURNS = (
    Case(
        "2 % of the requests fail",
        {outcome("failed"): "0+1.2x{n}"},
        AVAILABILITY,
        minutes=120,
        interval_minutes=5,
    ),
    Case("0.05 % fail: within the budget", {outcome("failed"): "0+0.03x{n}"}),
    Case(
        "with little traffic one of twenty fails in an hour",
        {outcome("answered"): "0+0.3x{n}", outcome("failed"): "0x20 1x{n}"},
    ),
    Case(
        "a burst of failures is over",
        {outcome("failed"): "0+30x10 300x{n}"},
        minutes=50,
    ),
    Case("clients send what is wrong", {outcome("invalid"): "0+60x{n}"}),
    Case(
        "0.8 % fail for hours",
        {outcome("failed"): "0+0.48x{n}"},
        AVAILABILITY,
        minutes=400,
        interval_minutes=5,
    ),
    Case(
        "0.15 % fail for days",
        {outcome("failed"): "0+0.18x{n}", outcome("answered"): "0+120x{n}"},
        {"MistralAvailabilityBurn warning"},
        minutes=4 * 1440,
        interval_minutes=30,
    ),
    Case(
        "a fifth of the first tokens is late",
        {within(TTFT_S, "2.5"): "0+48x{n}"},
        TTFT,
        minutes=90,
        interval_minutes=5,
    ),
    Case(
        "four first tokens of an hour are late, of twenty",
        {
            of_router(f"{TTFT_S}_count"): "0+0.33x{n}",
            within(TTFT_S, "2.5"): "0+0.26x{n}",
        },
    ),
    Case(
        "a fifth of the gaps is long",
        {within(ITL_S, "0.1"): "0+4800x{n}"},
        ITL,
        minutes=90,
        interval_minutes=5,
    ),
    Case(
        "one slow answer in an hour with three",
        {
            of_router(f"{ITL_S}_count"): "0+5x{n}",
            within(ITL_S, "0.1"): "0+3.5x{n}",
        },
    ),
)

CAUSES = (
    Case("a healthy service", minutes=240, interval_minutes=5),
    Case(
        "no requests come",
        {
            series: "0+0x{n}"
            for series in STEADY
            if series.startswith(("mistral_serve_", "vllm:")) and "available" not in series
        },
    ),
    Case(
        "a router has no replica",
        {of_router("mistral_serve_available_replicas"): "2x20 0x{n}"},
        {"MistralRouterWithoutReplicas critical"},
        minutes=25,
    ),
    Case(
        "a model is scaled to zero",
        {
            of_router("mistral_serve_available_replicas"): "0+0x{n}",
            decided("replicas"): "0+0x{n}",
            of_engine("up"): "1x5 _x{n}",
            of_engine("up", "b"): "1x5 _x{n}",
        },
    ),
    Case(
        "a third is refused",
        {outcome("refused"): "0+30x{n}"},
        {"MistralQueueSaturated critical", "MistralQueueSaturated warning"},
    ),
    Case(
        "5 % are refused",
        {outcome("refused"): "0+3x{n}"},
        {"MistralQueueSaturated warning"},
    ),
    Case(
        "half of them wait for long",
        {within(QUEUE_S, "5.0"): "0+30x{n}"},
        {"MistralQueueSaturated warning"},
    ),
    Case("a few are refused in a peak", {outcome("refused"): "0x20 8x{n}"}),
    Case(
        "the KV cache is full and preempts",
        {of_engine("vllm:num_preemptions_total"): "0+2x{n}"},
        {"MistralKvCacheSaturated warning"},
    ),
    Case(
        "it preempts now and then with a cache that is not full",
        {
            of_engine("vllm:num_preemptions_total"): "0+2x{n}",
            of_engine("vllm:kv_cache_usage_perc"): "0.6+0x{n}",
        },
    ),
    Case(
        "the load asks for more than max_replicas",
        {AT_MAX: "1+0x{n}"},
        {"MistralNoScalingHeadroom warning"},
    ),
    Case("it does for a moment", {AT_MAX: "0x30 1x5 0x{n}"}, minutes=34),
    Case(
        "a router's event loop is busy",
        {EVENT_LOOP: "0+54x{n}"},
        {"MistralRouterSaturated warning"},
    ),
    Case("a router is busy for five minutes", {EVENT_LOOP: "0+18x20 414+57x4 642+18x{n}"}),
    Case(
        "streams break off",
        {outcome("broken"): "0x30 5x{n}", outcome("answered"): "0+20000x{n}"},
        {"MistralStreamsBroken warning"},
    ),
    Case(
        "one stream breaks off",
        {outcome("broken"): "0x30 1x{n}", outcome("answered"): "0+20000x{n}"},
    ),
    Case(
        "an engine makes no step",
        {of_engine("vllm:iteration_tokens_total_count"): "0+600x20 12000x{n}"},
        {"MistralEngineStalled critical"},
    ),
    Case(
        "an engine that the routers alone wait for",
        {
            of_engine("vllm:num_requests_running"): "0+0x{n}",
            of_engine("vllm:iteration_tokens_total_count"): "36000+0x{n}",
        },
        {"MistralEngineStalled critical"},
    ),
    Case(
        "an idle engine",
        {
            BOOKED: "0+0x{n}",
            of_engine("vllm:num_requests_running"): "0+0x{n}",
            of_engine("vllm:iteration_tokens_total_count"): "36000+0x{n}",
        },
    ),
    Case(
        "the routers eject an engine",
        {of_router("mistral_serve_available_replicas"): "1+0x{n}"},
        {"MistralEngineStalled warning"},
    ),
    Case(
        "an engine drains",
        {
            of_router("mistral_serve_available_replicas"): "2x5 1x{n}",
            of_router("mistral_serve_leaving_replicas"): "0x5 1x{n}",
        },
    ),
    Case(
        "a request ends an engine",
        {JUDGED: "0x5 1x{n}"},
        {"MistralRequestsEndEngines warning"},
        minutes=20,
    ),
    Case(
        "an adapter is refused",
        {REFUSED_ADAPTERS: "0x5 1x{n}"},
        {"MistralAdapterNotServed warning"},
    ),
    Case(
        "adapters do not load",
        {of_engine("mistral_serve_adapter_load_failures_total"): "0+1x{n}"},
        {"MistralAdapterNotServed warning"},
    ),
    Case("an adapter is copied while routers look", {REFUSED_ADAPTERS: "0x5 1x2 0x{n}"}),
    Case(
        "answers loop",
        {of_engine("mistral_serve_loop_stops_total"): "0+3x{n}"},
        {"MistralAnswersLoop warning"},
    ),
    Case("one in a hundred loops", {of_engine("mistral_serve_loop_stops_total"): "0+0.6x{n}"}),
    Case(
        "replicas fail to start",
        {status("Engine-m"): "3x10 1x{n}"},
        {"MistralReplicasFailToStart warning"},
    ),
    Case(
        "an update never ends",
        {status("Engine-m"): "3+0x{n}"},
        {"MistralReplicasFailToStart warning"},
        minutes=65,
    ),
    Case("an update takes 20 minutes", {status("Engine-m"): "3x20 6x{n}"}, minutes=65),
    Case(
        "Ray's head is away",
        {status("Engine-m"): "6x10 _x{n}", status("Router"): "6x10 _x{n}"},
        {"MistralHeadDown critical"},
        minutes=240,
    ),
    Case(
        "a new head takes the place of the old one",
        {status(name): "6x10 _x4 6x{n}" for name in ("Engine-m", "Router")},
    ),
    Case("Prometheus does not know Ray", missing=(status("Engine-m"), status("Router"))),
    Case(
        "Redis is down",
        {REDIS: "0+0x{n}"},
        {"MistralHeadWithoutFaultTolerance warning"},
    ),
    Case("Redis restarts", {REDIS: "1x30 0x3 1x{n}"}),
    Case(
        "responses are not stored",
        {NOT_STORED: "0x10 0+5x{n}"},
        {"MistralResponsesNotStored warning"},
    ),
    Case("a few are not stored while Redis restarts", {NOT_STORED: "0x10 8x{n}"}),
    Case(
        "usage stays in memory",
        {UNWRITTEN: "5+1x{n}"},
        {"MistralUsageNotWritten warning"},
    ),
    Case("usage is scraped before it is written", {UNWRITTEN: "5 0 7 0x{n}"}),
    Case(
        "the keys file cannot be read",
        {STALE: "0x10 1x{n}"},
        {"MistralAuthenticationStale warning"},
    ),
    Case("the keys file is read half-written, and soon whole", {STALE: "0x10 1x3 0x{n}"}),
    Case(
        "a certificate ends in ten days",
        {CERTIFICATE: "864000+0x{n}"},
        {"MistralCertificateExpires warning"},
        minutes=65,
    ),
    Case(
        "a certificate ends tomorrow",
        {CERTIFICATE: "86400+0x{n}"},
        {"MistralCertificateExpires critical"},
    ),
    Case(
        "so does one as Prometheus has it with honorLabels off",
        {OTHER_CERTIFICATE: "86400+0x{n}"},
        {"MistralCertificateExpires critical"},
    ),
    Case(
        "the head's memory grows for weeks",
        {HEAD_MEMORY_USED: "7e9+1e7x{n}"},
        {"MistralMemoryNearlyFull warning"},
    ),
    Case(
        "it is nearly full for a moment",
        {HEAD_MEMORY_USED: "3e9x10 7.5e9x5 3e9x{n}"},
    ),
    Case("a router of another service is down", {OTHER_ROUTER: "0+0x{n}"}),
    Case(
        "the weights' disk is full", {volume("available"): "4+0x{n}"}, {"MistralDiskFull critical"}
    ),
    Case(
        "Redis' disk fills up",
        {volume("available"): "29-0.03x{n}"},
        {"MistralDiskFull warning"},
        minutes=70,
    ),
    Case("a disk that is nearly full as ever", {volume("available"): "10+0x{n}"}),
    Case(
        "no router is scraped",
        missing=(ROUTER_UP,),
        fires={"MistralMetricsMissing critical"},
    ),
    Case(
        "a router does not answer",
        {ROUTER_UP: "0+0x{n}"},
        {"MistralMetricsMissing critical", "MistralMetricsMissing warning"},
    ),
    Case(
        "an engine does not answer",
        {of_engine("up"): "0+0x{n}"},
        {"MistralMetricsMissing warning"},
    ),
)


CASES = (*BURNS, *CAUSES)
