"""The row about LoRA adapters in the dashboard of the engines."""

from dashboards.generate.dashboard import Row
from dashboards.generate.matchers import MODEL, REPLICA
from dashboards.generate.panel import Query, graph

_NONE = "No adapters"

_NO_CANARIES = "No canaries"


def _of_canaries(part: str, of: str) -> Query:
    """Returns the ratio of two metrics by version, of adapters that have a canary."""
    by = "sum by (adapter, version) (rate(mistral_serve_adapter_"
    canary = f'mistral_serve_adapter_requests_total{{{MODEL}, version="canary"}}'
    return Query(
        f"{by}{part}{{{MODEL}}}[$__rate_interval]))\n"
        f"/ ({by}{of}{{{MODEL}}}[$__rate_interval])) > 0)\n"
        f"and on (adapter) sum by (adapter) (rate({canary}[1h])) > 0",
        "{{adapter}} {{version}}",
    )


ROW = Row(
    "LoRA adapters",
    7,
    [
        graph(
            title="Adapters by replica",
            shows="Adapters that each engine has loaded, and those that requests may ask for.",
            remedy="If engines have far fewer than are asked for and load all the time, raise "
            "lora.host_cache_gib. If some are refused, see MistralAdapterNotServed.",
            queries=[
                Query(
                    f"sum by (replica) (mistral_serve_resident_adapters{{{REPLICA}}})",
                    "{{replica}}",
                ),
                Query(f"max by (model) (mistral_serve_served_adapters{{{MODEL}}})", "served"),
                Query(f"max by (model) (mistral_serve_refused_adapters{{{MODEL}}})", "refused"),
            ],
            unit="none",
            width=8,
            empty=_NONE,
        ),
        graph(
            title="Loads of adapters",
            shows="The mean time of a load, and the loads that failed in five minutes.",
            remedy="A load of seconds is a slow volume. If loads fail, see "
            "MistralAdapterNotServed.",
            queries=[
                Query(
                    "sum by (replica) "
                    f"(rate(mistral_serve_adapter_load_seconds_sum{{{REPLICA}}}[5m]))\n"
                    "/ (sum by (replica) "
                    f"(rate(mistral_serve_adapter_load_seconds_count{{{REPLICA}}}[5m])) > 0)",
                    "{{replica}} seconds",
                ),
                Query(
                    "sum by (replica) "
                    f"(increase(mistral_serve_adapter_load_failures_total{{{REPLICA}}}[5m]))",
                    "{{replica}} failed",
                ),
            ],
            unit="none",
            width=8,
            empty=_NONE,
        ),
        graph(
            title="Requests by adapter",
            shows="The ten adapters with most requests a second.",
            remedy="If there are more busy ones than max_loras times the replicas, requests wait "
            "for slots: raise lora.max_loras or add replicas.",
            queries=[
                Query(
                    "topk(10, sum by (adapter) "
                    f"(rate(mistral_serve_adapter_requests_total{{{MODEL}}}[$__rate_interval])))",
                    "{{adapter}}",
                )
            ],
            unit="reqps",
            width=8,
            empty=_NONE,
        ),
        graph(
            title="Canaries: failures",
            shows="The share of the requests to each version of an adapter that fail.",
            remedy="Withdraw a canary that fails more often than the stable version.",
            queries=[_of_canaries("failures_total", "requests_total")],
            unit="percentunit",
            width=12,
            empty=_NO_CANARIES,
        ),
        graph(
            title="Canaries: TTFT",
            shows="The mean time to first token of each version of an adapter.",
            remedy="A canary is slower while engines load it. If it stays so, compare the ranks.",
            queries=[_of_canaries("ttft_seconds_sum", "ttft_seconds_count")],
            unit="s",
            width=12,
            empty=_NO_CANARIES,
        ),
    ],
)
