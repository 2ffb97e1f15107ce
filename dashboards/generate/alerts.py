"""Alerts: few, each of which needs an action that its runbook in dashboards/runbooks describes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dashboards.generate.slo import (
    AVAILABILITY,
    BUDGET_WINDOW,
    BURN_WINDOWS,
    BY,
    ITL,
    TTFT,
    BurnWindow,
    Objective,
    bad_events,
    error_ratio,
)
from serving.router.telemetry.objectives import ITL_S, QUEUE_EDGES_S, TTFT_S

RUNBOOKS_URL = "https://git.example.com/mistral-serve/blob/main/dashboards/runbooks"
"""The URL under which your operators read dashboards/runbooks/."""
NAMESPACE = "mistral-serve"
"""The namespace in k8s/. Kubernetes exports its metrics for all namespaces."""


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    severity: str
    """critical: page someone, users are affected or soon will be; warning: for working hours."""
    expr: str
    wait: str
    summary: str
    description: str
    labels: dict[str, str] = field(default_factory=dict)

    def rule(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity, "service": "mistral-serve", **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS_URL}/{self.name}.md",
            },
        }


def groups() -> list[dict[str, Any]]:
    return [
        {"name": "mistral-objectives", "interval": "30s", "rules": [a.rule() for a in burns()]},
        {"name": "mistral-causes", "interval": "30s", "rules": [a.rule() for a in CAUSES]},
    ]


def burns() -> Iterator[Alert]:
    for objective, name, what in (
        (AVAILABILITY, "MistralAvailabilityBurn", "requests fail or break off"),
        (TTFT, "MistralTtftBurn", f"first tokens take more than {TTFT_S} s"),
        (ITL, "MistralItlBurn", f"gaps between tokens are longer than {ITL_S} s"),
    ):
        for window in BURN_WINDOWS:
            yield _burn(objective, name, what, window)


def _burn(objective: Objective, name: str, what: str, window: BurnWindow) -> Alert:
    slo = f'{{slo="{objective.name}"}}'
    threshold = f"{window.rate} * {objective.budget:.3g}"
    return Alert(
        name,
        window.severity,
        f"{error_ratio(window.long)}{slo} > {threshold}\n"
        f"and {error_ratio(window.short)}{slo} > {threshold}\n"
        f"and {bad_events(window.long)}{slo} >= {objective.min_bad}",
        window.wait,
        f"{{{{ $labels.model }}}}: too many {what}",
        f"{{{{ $value | humanizePercentage }}}} were bad in the last {window.long}. The error "
        f"budget is {100 * objective.budget:g} % over {BUDGET_WINDOW}; it is being spent more than "
        f"{window.rate:g} times too fast.",
        {"window": window.long},
    )


ROUTER_SATURATED = 0.8
"""Used share of a router's event loop from which on its streams falter."""
_REFUSED = 'mistral_serve_requests_total{outcome="refused"}'
_WAITED_S = QUEUE_EDGES_S[-1]


def _share(part: str, whole: str, window: str) -> str:
    return f"sum {BY} (rate({part}[{window}]))\n/ (sum {BY} (rate({whole}[{window}])) > 0)"


_QUEUE_COUNT = "mistral_serve_queue_time_seconds_count"
_QUEUE_SHORT = f'mistral_serve_queue_time_seconds_bucket{{le="{_WAITED_S}"}}'
_STATUS = 'ray_serve_deployment_status{deployment=~"Engine-.*|Router"}'
"""Serve's controller, which runs on Ray's head, exports it."""
_DEPLOYMENT_STATUS = f"max by (namespace, application, deployment) ({_STATUS})"
_VOLUMES = (
    f'{{namespace="{NAMESPACE}",persistentvolumeclaim=~"data-redis-.*|models|usage|batches"}}'
)
_FREE = (
    f"kubelet_volume_stats_available_bytes{_VOLUMES}\n"
    f"/ kubelet_volume_stats_capacity_bytes{_VOLUMES}"
)
_CERTIFICATE_END = "certmanager_certificate_expiration_timestamp_seconds"
# Without honorLabels, Prometheus renames the namespace of cert-manager's series.
_CERTIFICATE_LEFT_S = (
    f'({_CERTIFICATE_END}{{namespace="{NAMESPACE}"}}\n'
    f'or {_CERTIFICATE_END}{{exported_namespace="{NAMESPACE}"}}) - time()'
)
_ENGINE = "by (namespace, model, replica)"
# A Prometheus of several services may have routers of another kind.
_ROUTER = '{component="router",router!=""}'
_RAY_NODE = "by (namespace, pod, ip, RayNodeType)"

CAUSES = (
    Alert(
        "MistralRouterWithoutReplicas",
        "critical",
        f"count {BY} (mistral_serve_available_replicas == 0)\n"
        f"unless max {BY} (ray_mistral_serve_autoscaling_replicas) == 0",
        "2m",
        "{{ $labels.model }}: {{ $value }} routers have no available replica",
        "Requests to this model through these routers wait, then fail with a 503.",
    ),
    Alert(
        "MistralQueueSaturated",
        "critical",
        f"{_share(_REFUSED, 'mistral_serve_requests_total', '15m')} > 0.2\n"
        f"and sum {BY} (increase({_REFUSED}[15m])) >= 20",
        "10m",
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of the requests are refused",
        "The load has exceeded the capacity of all replicas for longer than a short peak.",
    ),
    Alert(
        "MistralQueueSaturated",
        "warning",
        f"(\n{_share(_REFUSED, 'mistral_serve_requests_total', '15m')} > 0.01\n"
        f"and sum {BY} (increase({_REFUSED}[15m])) >= 10\n)\n"
        f"or\n(\n1 - {_share(_QUEUE_SHORT, _QUEUE_COUNT, '15m')} > 0.1\n"
        f"and sum {BY} (increase({_QUEUE_COUNT}[15m])) >= 20\n)",
        "10m",
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of the requests are refused or "
        f"wait for more than {_WAITED_S:g} s",
        "The replicas are full. Admitted requests still meet their objectives.",
    ),
    Alert(
        "MistralKvCacheSaturated",
        "warning",
        f"avg {_ENGINE} (avg_over_time(vllm:kv_cache_usage_perc[10m])) > 0.9\n"
        f"and sum {_ENGINE} (increase(vllm:num_preemptions_total[10m])) >= 5",
        "10m",
        "{{ $labels.model }}: the KV cache of {{ $labels.replica }} is full",
        "It is {{ $value | humanizePercentage }} full and the engine preempts requests: their "
        "answers pause while their tokens are computed again.",
    ),
    Alert(
        "MistralNoScalingHeadroom",
        "warning",
        f'max {BY} (ray_mistral_serve_autoscaling_bound{{bound="max_replicas"}}) == 1',
        "15m",
        "{{ $labels.model }}: the load needs more replicas than max_replicas",
        "All allowed replicas are up or starting. If the load grows, requests will be refused.",
    ),
    Alert(
        "MistralRouterSaturated",
        "warning",
        "max by (namespace, router) (rate(mistral_serve_event_loop_busy_seconds_total[5m])) > "
        f"{ROUTER_SATURATED}",
        "10m",
        "Router {{ $labels.router }} is busy for {{ $value | humanizePercentage }} of its time",
        "The requests and streams that pass through it wait for each other.",
    ),
    Alert(
        "MistralStreamsBroken",
        "warning",
        f'sum {BY} (increase(mistral_serve_requests_total{{outcome="broken"}}[15m])) >= 3',
        "0m",
        "{{ $labels.model }}: streams break off",
        "About {{ $value | humanize }} in 15 minutes: their replica or router failed, and no other "
        "replica could continue them.",
    ),
    Alert(
        "MistralEngineStalled",
        "critical",
        f"(\nmax {_ENGINE} (mistral_serve_booked_tokens) > 0\n"
        f"or sum {_ENGINE} (vllm:num_requests_running) > 0\n)\n"
        f"and sum {_ENGINE} (rate(vllm:iteration_tokens_total_count[2m])) == 0",
        "3m",  # Ray Serve replaces it within about two minutes, if it can
        "{{ $labels.model }}: {{ $labels.replica }} is up but generates no tokens",
        "It has requests, but its engine has not completed a step for minutes.",
    ),
    Alert(
        "MistralEngineStalled",
        "warning",
        f'count {BY} (up{{component="engine"}} == 1)\n'
        f"> max {BY} (mistral_serve_available_replicas + mistral_serve_leaving_replicas)",
        "10m",
        "{{ $labels.model }}: an engine is up but ejected by the routers",
        "Prometheus can scrape {{ $value }} engines, but fewer replicas are available: one failed "
        "requests or its health check.",
    ),
    Alert(
        "MistralRequestsEndEngines",
        "warning",
        f"sum {BY} (increase(mistral_serve_poison_judged_requests_total[30m])) > 0",
        "0m",
        "{{ $labels.model }}: requests end its engines and are refused",
        "About {{ $value | humanize }} in 30 minutes. Each ended one or two engines before it was "
        "known.",
    ),
    Alert(
        "MistralAdapterNotServed",
        "warning",
        f"max {BY} (mistral_serve_refused_adapters) > 0\n"
        f"or sum {BY} (increase(mistral_serve_adapter_load_failures_total[10m])) > 0",
        "5m",
        "{{ $labels.model }}: {{ $value | humanize }} adapters are refused or do not load",
        "Requests for them get a 404 or a 503, or the version before. All others are served.",
    ),
    Alert(
        "MistralAnswersLoop",
        "warning",
        f"sum {BY} (increase(mistral_serve_loop_stops_total[30m]))\n"
        f'/ (sum {BY} (increase(mistral_serve_requests_total{{outcome="answered"}}[30m])) > 0)'
        " > 0.02\n"
        f"and sum {BY} (increase(mistral_serve_loop_stops_total[30m])) >= 5",
        "10m",
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of the answers repeat themselves",
        "They are stopped, but what users received of them is of little use.",
    ),
    Alert(
        "MistralReplicasFailToStart",
        "warning",
        f"{_DEPLOYMENT_STATUS} <= 2\nand {_DEPLOYMENT_STATUS} > 0",
        "15m",
        "{{ $labels.deployment }}: its replicas do not start or do not stay healthy",
        "Ray Serve reports {{ if eq $value 1.0 }}DEPLOY_FAILED{{ else }}UNHEALTHY{{ end }}.",
        {"stage": "failed"},
    ),
    Alert(
        "MistralReplicasFailToStart",
        "warning",
        f"{_DEPLOYMENT_STATUS} >= 3\nand {_DEPLOYMENT_STATUS} <= 4",
        "1h",
        "{{ $labels.deployment }}: an update or a scale-up does not finish",
        "New replicas have not become ready for an hour.",
        {"stage": "never_ready"},
    ),
    Alert(
        "MistralHeadDown",
        "critical",
        # That it was there, as a Prometheus need not know Ray's metrics.
        f"group by (namespace) (present_over_time({_STATUS}[1d]))\n"
        f"unless group by (namespace) ({_STATUS})",
        "5m",  # longer than a new head takes, and half of what the workers wait for it
        "Ray's head is down: nothing is replaced, scaled or updated",
        "Routers and engines continue without it for ten minutes, then they end too.",
    ),
    Alert(
        "MistralMemoryNearlyFull",
        "warning",
        f"max {_RAY_NODE} (ray_node_mem_used)\n/ max {_RAY_NODE} (ray_node_mem_total) > 0.9",
        "15m",
        "Memory of the {{ $labels.RayNodeType }} {{ $labels.ip }} is "
        "{{ $value | humanizePercentage }} full",
        "From 95 % on Ray kills processes there, and at the limit Kubernetes the whole container.",
    ),
    Alert(
        "MistralHeadWithoutFaultTolerance",
        "warning",
        f'kube_statefulset_status_replicas_ready{{namespace="{NAMESPACE}",statefulset="redis"}}'
        " < 1",
        "10m",
        "Redis is not ready: Ray's head cannot save its state",
        "The service continues, but if the head restarts now, it cannot recover.",
    ),
    Alert(
        "MistralResponsesNotStored",
        "warning",
        "sum by (namespace) "
        '(increase(mistral_serve_stored_responses_total{result="failed"}[15m])) >= 10',
        "5m",
        "Responses of /v1/responses are answered and not stored",
        "About {{ $value | humanize }} in 15 minutes could not be stored or read: clients cannot "
        "continue them by previous_response_id.",
    ),
    Alert(
        "MistralUsageNotWritten",
        "warning",
        "sum by (namespace) (min_over_time(mistral_serve_ledger_unwritten_entries[5m])) > 0",
        "5m",
        "The usage ledger is not written",
        "{{ $value | humanize }} entries or more are in the memory of routers alone. Requests are "
        "served; what a router that ends has not written is billed to nobody.",
    ),
    Alert(
        "MistralAuthenticationStale",
        "warning",
        "max by (namespace, source) (min_over_time(mistral_serve_authentication_stale[5m])) > 0",
        "5m",
        "Routers cannot read the keys of {{ $labels.source }}",
        "The keys that they had before stay in force: new ones are refused, and revoked ones are "
        "not. A router that starts now has none.",
    ),
    Alert(
        "MistralCertificateExpires",
        "critical",
        f"{_CERTIFICATE_LEFT_S} < 2 * 86400",
        "10m",
        "The certificate {{ $labels.name }} expires in {{ $value | humanizeDuration }}",
        "After that, clients refuse to connect.",
    ),
    Alert(
        "MistralCertificateExpires",
        "warning",
        f"{_CERTIFICATE_LEFT_S} < 14 * 86400",
        "1h",
        "The certificate {{ $labels.name }} expires in {{ $value | humanizeDuration }}",
        "It should have been renewed by now.",
    ),
    Alert(
        "MistralDiskFull",
        "critical",
        f"{_FREE} < 0.05",
        "5m",
        "{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} free space left",
        "When it is full, Redis rejects writes, weights cannot be downloaded, or usage and batches "
        "are not written.",
    ),
    Alert(
        "MistralDiskFull",
        "warning",
        f"{_FREE} < 0.3\nand predict_linear(kubelet_volume_stats_available_bytes{_VOLUMES}[6h], "
        "86400) < 0",
        "1h",
        "{{ $labels.persistentvolumeclaim }} will be full within a day",
        "{{ $value | humanizePercentage }} of its space is free, and it is filling up.",
    ),
    Alert(
        "MistralMetricsMissing",
        "critical",
        f"absent(up{_ROUTER} == 1)",
        "5m",
        "Prometheus can scrape no router",
        "Either all routers are down or Prometheus cannot reach them. No other alert can fire.",
    ),
    Alert(
        "MistralMetricsMissing",
        "warning",
        f'up{_ROUTER} == 0 or up{{component="engine",replica!=""}} == 0',
        "10m",
        "{{ $labels.component }} {{ $labels.instance }} cannot be scraped",
        "Dashboards and alerts do not include it.",
    ),
)
