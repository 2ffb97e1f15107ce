"""Which alerts fire in which trouble, and that none fires without."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dashboards import promtool, queries
from tests.dashboards.promql import with_values

pytestmark = promtool.NEEDED

_OUTCOME = 'mistral_serve_requests_total{namespace="mistral-serve",router="r",model="m",outcome='
_OF_MODEL = '{namespace="mistral-serve",router="r",model="m"}'
_MODEL = '{namespace="mistral-serve",model="m"'
_TTFT = "mistral_serve_time_to_first_token_seconds"
_ITL = "mistral_serve_inter_token_latency_seconds"
_QUEUE = "mistral_serve_queue_time_seconds"
_SERVE = 'ray_serve_deployment_status{namespace="mistral-serve",application="mistral",deployment='
_VOLUME = 'namespace="mistral-serve",persistentvolumeclaim='
_ENGINE = '{namespace="mistral-serve",component="engine",model="m",replica='
_CERTIFICATE = "certmanager_certificate_expiration_timestamp_seconds"


def outcome(name: str) -> str:
    return f'{_OUTCOME}"{name}"}}'


def of_router(name: str) -> str:
    return f"{name}{_OF_MODEL}"


def within(histogram: str, seconds: str) -> str:
    return f'{histogram}_bucket{{namespace="mistral-serve",router="r",model="m",le="{seconds}"}}'


def of_engine(name: str, replica: str = "a") -> str:
    return f'{name}{_ENGINE}"{replica}"}}'


def status(deployment: str) -> str:
    return f'{_SERVE}"{deployment}"}}'


def decided(name: str, more: str = "") -> str:
    return f"ray_mistral_serve_autoscaling_{name}{_MODEL}{more}}}"


def volume(name: str, claim: str = "data-redis-0") -> str:
    return f'kubelet_volume_stats_{name}_bytes{{{_VOLUME}"{claim}"}}'


REDIS = 'kube_statefulset_status_replicas_ready{namespace="mistral-serve",statefulset="redis"}'
CERTIFICATE = f'{_CERTIFICATE}{{namespace="mistral-serve",name="tls"}}'
OTHER_CERTIFICATE = f'{_CERTIFICATE}{{exported_namespace="mistral-serve",name="other"}}'
AT_MAX = decided("bound", ',bound="max_replicas"')
ROUTER_UP = 'up{namespace="mistral-serve",component="router",router="r"}'
EVENT_LOOP = 'mistral_serve_event_loop_busy_seconds_total{namespace="mistral-serve",router="r"}'
UNWRITTEN = 'mistral_serve_ledger_unwritten_entries{namespace="mistral-serve",router="r"}'
STALE = (
    'mistral_serve_authentication_stale{namespace="mistral-serve",router="r",source="keys_file"}'
)
NOT_STORED = (
    'mistral_serve_stored_responses_total{namespace="mistral-serve",router="r",result="failed"}'
)
BOOKED = 'mistral_serve_booked_tokens{namespace="mistral-serve",router="r",model="m",replica="a"}'
JUDGED = of_router("mistral_serve_poison_judged_requests_total")
REFUSED_ADAPTERS = of_router("mistral_serve_refused_adapters")
STEADY: dict[str, str] = {
    # 60 requests a minute, each of 100 gaps.
    outcome("answered"): "0+60x{n}",
    **{outcome(name): "0+0x{n}" for name in ("refused", "failed", "broken", "invalid")},
    of_router(f"{_TTFT}_count"): "0+60x{n}",
    within(_TTFT, "2.5"): "0+60x{n}",
    of_router(f"{_ITL}_count"): "0+6000x{n}",
    within(_ITL, "0.1"): "0+6000x{n}",
    of_router(f"{_QUEUE}_count"): "0+60x{n}",
    within(_QUEUE, "5.0"): "0+60x{n}",
    of_router("mistral_serve_available_replicas"): "2+0x{n}",
    of_router("mistral_serve_leaving_replicas"): "0+0x{n}",
    BOOKED: "4000+0x{n}",
    of_engine("vllm:num_requests_running"): "8+0x{n}",
    of_engine("vllm:iteration_tokens_total_count"): "0+600x{n}",
    of_engine("vllm:kv_cache_usage_perc"): "0.95+0x{n}",  # a replica well used
    of_engine("vllm:num_preemptions_total"): "0+0x{n}",
    of_engine("mistral_serve_loop_stops_total"): "0+0x{n}",
    of_engine("mistral_serve_adapter_load_failures_total"): "0+0x{n}",
    REFUSED_ADAPTERS: "0+0x{n}",
    of_engine("up"): "1+0x{n}",
    of_engine("up", "b"): "1+0x{n}",
    ROUTER_UP: "1+0x{n}",
    EVENT_LOOP: "0+18x{n}",  # 30 % of its time
    status("Engine-m"): "6+0x{n}",
    status("Router"): "6+0x{n}",
    decided("replicas"): "2+0x{n}",
    AT_MAX: "0+0x{n}",
    REDIS: "1+0x{n}",
    NOT_STORED: "0+0x{n}",
    JUDGED: "0+0x{n}",
    UNWRITTEN: "0+0x{n}",
    STALE: "0+0x{n}",
    volume("available"): "50+0x{n}",
    volume("capacity"): "100+0x{n}",
    CERTIFICATE: "5184000+0x{n}",  # 60 days
    OTHER_CERTIFICATE: "5184000+0x{n}",
}
"""The series of a healthy service under load, from time 0."""

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
        {within(_TTFT, "2.5"): "0+48x{n}"},
        TTFT,
        minutes=90,
        interval_minutes=5,
    ),
    Case(
        "four first tokens of an hour are late, of twenty",
        {
            of_router(f"{_TTFT}_count"): "0+0.33x{n}",
            within(_TTFT, "2.5"): "0+0.26x{n}",
        },
    ),
    Case(
        "a fifth of the gaps is long",
        {within(_ITL, "0.1"): "0+4800x{n}"},
        ITL,
        minutes=90,
        interval_minutes=5,
    ),
    Case(
        "one slow answer in an hour with three",
        {
            of_router(f"{_ITL}_count"): "0+5x{n}",
            within(_ITL, "0.1"): "0+3.5x{n}",
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
        {within(_QUEUE, "5.0"): "0+30x{n}"},
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


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool prints for each case, by its trouble; it runs on all cores."""
    folders = [tmp_path_factory.mktemp("case") for _ in CASES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(difference, CASES, folders)
        return dict(zip([case.trouble for case in CASES], said, strict=True))


def difference(case: Case, folder: Path) -> str:
    samples = case.minutes // case.interval_minutes + 1
    series = {
        name: value.format(n=samples)
        for name, value in (STEADY | case.changed).items()
        if name not in case.missing
    }
    return promtool.firing(
        series, f"{case.minutes}m", f"{case.interval_minutes}m", folder, case.fires
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.trouble)
def test_the_alerts_that_fire(case: Case, differences: dict[str, str]) -> None:
    assert set(case.changed) <= set(STEADY)
    assert not differences[case.trouble], differences[case.trouble]


def test_each_alert_fires_in_a_case_and_is_silent_in_another() -> None:
    fired = {alert for case in CASES for alert in case.fires}
    rules = {f"{rule['alert']} {rule['labels']['severity']}" for rule in queries.alerts()}
    assert fired == rules


def test_each_query_parses(tmp_path: Path) -> None:
    texts = [with_values(query) for _, query in queries.everything()]
    result = promtool.check(texts, tmp_path)
    assert result.returncode == 0, result.stderr
