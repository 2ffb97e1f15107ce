"""The series of a healthy service under load, which troubles change."""

_OUTCOME = 'mistral_serve_requests_total{namespace="mistral-serve",router="r",model="m",outcome='
_OF_MODEL = '{namespace="mistral-serve",router="r",model="m"}'
_MODEL = '{namespace="mistral-serve",model="m"'
TTFT_S = "mistral_serve_time_to_first_token_seconds"
ITL_S = "mistral_serve_inter_token_latency_seconds"
QUEUE_S = "mistral_serve_queue_time_seconds"
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
HEAD_MEMORY_USED = (
    'ray_node_mem_used{namespace="mistral-serve",pod="h",ip="10.0.0.1",RayNodeType="head"}'
)
HEAD_MEMORY = HEAD_MEMORY_USED.replace("used", "total")
OTHER_ROUTER = 'up{namespace="gateways",component="router"}'
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
    of_router(f"{TTFT_S}_count"): "0+60x{n}",
    within(TTFT_S, "2.5"): "0+60x{n}",
    of_router(f"{ITL_S}_count"): "0+6000x{n}",
    within(ITL_S, "0.1"): "0+6000x{n}",
    of_router(f"{QUEUE_S}_count"): "0+60x{n}",
    within(QUEUE_S, "5.0"): "0+60x{n}",
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
    HEAD_MEMORY_USED: "3e9+0x{n}",
    HEAD_MEMORY: "8e9+0x{n}",
    OTHER_ROUTER: "1+0x{n}",
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
