"""What vLLM does: KV cache, batch, speed, and what its answers end with. By vLLM's own metrics."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import REPLICA
from dashboards.generate.panel import Query, graph, stat
from serving.router.objectives import ITL_S, TTFT_S

_NOT_SCRAPED = "No engine is scraped"


def _rate(metric: str, by: str = "replica", more: str = "") -> str:
    grouped = f"by ({by}) " if by else ""
    return f"sum {grouped}(rate({metric}{{{REPLICA}{more}}}[$__rate_interval]))"


def _quantiles(histogram: str) -> list[Query]:
    buckets = f"sum by (model, le) (rate({histogram}_bucket{{{REPLICA}}}[$__rate_interval]))"
    return [
        Query(f"histogram_quantile({quantile}, {buckets})", f"{{{{model}}}} {name}")
        for quantile, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    ]


_KV = f"vllm:kv_cache_usage_perc{{{REPLICA}}}"
_RUNNING = f"vllm:num_requests_running{{{REPLICA}}}"
_WAITING = f"vllm:num_requests_waiting{{{REPLICA}}}"
_LOCAL = ',source="local_compute"'

DASHBOARD = dashboard(
    "engines",
    "Engines",
    "What each engine does: KV cache, batch, preemptions, prefill and decode rates, loops.",
    [variables.NAMESPACE, variables.MODEL, variables.REPLICA],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Engines up",
                    shows="Engines that Prometheus reaches.",
                    act="fewer than Scaling's replicas: the others start, or do not answer "
                    "(MistralMetricsMissing's page).",
                    queries=[Query(f'sum(up{{component="engine",{REPLICA}}}) or vector(0)')],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="red",
                    thresholds=[(1, "green")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Fullest KV cache",
                    shows="KV cache in use of the engine that has least left.",
                    act="above 90 % with preemptions: MistralKvCacheSaturated's page. Full without "
                    "them is a replica well used.",
                    queries=[Query(f"max({_KV})")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    thresholds=[(0.9, "orange"), (0.98, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Running",
                    shows="Requests in the batches of all engines.",
                    act="0 while clients wait: MistralEngineStalled's page.",
                    queries=[Query(f"sum({_RUNNING})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="blue",
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Waiting in engines",
                    shows="Requests that engines have taken and cannot run yet. Routers keep them "
                    "back, so there are hardly any.",
                    act="more than a few: routers think that the engines have more room than they "
                    "have. See KV cache and preemptions.",
                    queries=[Query(f"sum({_WAITING})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(5, "orange"), (50, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Preemptions a minute",
                    shows="Answers that were set back because the KV cache was full, and are "
                    "computed again.",
                    act="more than now and then: MistralKvCacheSaturated's page.",
                    queries=[Query(f"60 * {_rate('vllm:num_preemptions_total', '')}")],
                    unit="none",
                    width=4,
                    decimals=1,
                    thresholds=[(1, "orange"), (10, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Loops in the last hour",
                    shows="Answers that repeated themselves for ever and were stopped.",
                    act="more than 2 % of the answers: MistralAnswersLoop's page.",
                    queries=[
                        Query(
                            f"sum(increase(mistral_serve_loop_stops_total{{{REPLICA}}}[1h])) "
                            "or vector(0)"
                        )
                    ],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(5, "orange")],
                ),
            ],
        ),
        Row(
            "KV cache and batch",
            8,
            [
                graph(
                    title="KV cache",
                    shows="In use, by replica.",
                    act="one is full and others are not: see Routing's balance.",
                    queries=[Query(f"max by (replica) ({_KV})", "{{replica}}")],
                    unit="percentunit",
                    width=8,
                    max=1,
                    thresholds=[(0.9, "orange")],
                    empty=_NOT_SCRAPED,
                ),
                graph(
                    title="Batch",
                    shows="Requests that run, by replica.",
                    act="it stays at max-num-seqs while the KV cache is not full: that flag is the "
                    "limit.",
                    queries=[Query(f"sum by (replica) ({_RUNNING})", "{{replica}}")],
                    unit="none",
                    width=8,
                    empty=_NOT_SCRAPED,
                ),
                graph(
                    title="Waiting and preempted",
                    shows="Requests that wait inside engines by reason (capacity: no room; "
                    "deferred: another), and preemptions a minute.",
                    act="capacity for long: MistralKvCacheSaturated's page.",
                    queries=[
                        Query(
                            f"sum by (reason) (vllm:num_requests_waiting_by_reason{{{REPLICA}}})",
                            "{{reason}}",
                        ),
                        Query(
                            f"60 * {_rate('vllm:num_preemptions_total', '')}",
                            "preemptions a minute",
                        ),
                    ],
                    unit="none",
                    width=8,
                    empty=_NOT_SCRAPED,
                ),
            ],
        ),
        Row(
            "Speed",
            8,
            [
                graph(
                    title="Prefill rate",
                    shows="Prompt tokens that were computed in a second: those from the cache are "
                    "not among them.",
                    act="one is slower than the others with as many waiting: see its node's GPUs "
                    "(clocks, temperature).",
                    queries=[
                        Query(
                            _rate("vllm:prompt_tokens_by_source_total", more=_LOCAL), "{{replica}}"
                        )
                    ],
                    unit="short",
                    width=8,
                ),
                graph(
                    title="Decode rate",
                    shows="Tokens generated in a second.",
                    act="0 with requests that run: MistralEngineStalled's page.",
                    queries=[Query(_rate("vllm:generation_tokens_total"), "{{replica}}")],
                    unit="short",
                    width=8,
                ),
                graph(
                    title="Tokens a step",
                    shows="Tokens that a step of an engine works on, of prompts and answers. The "
                    "larger, the longer the time between tokens and the more in all.",
                    act="at max-num-batched-tokens all the time: prompts fill every step, so the "
                    "inter-token latency is high. More replicas, or a lower prefill_utilization.",
                    queries=[
                        Query(
                            f"{_rate('vllm:iteration_tokens_total_sum')}\n"
                            f"/ ({_rate('vllm:iteration_tokens_total_count')} > 0)",
                            "{{replica}}",
                        )
                    ],
                    unit="short",
                    width=8,
                ),
            ],
        ),
        Row(
            "Latency inside engines",
            8,
            [
                graph(
                    title="Time to first token",
                    shows="As engines see it: without the wait in the routers' line.",
                    act="good here and bad on Service: requests wait in line. Bad here: prompts "
                    "are long, or prefill is slow.",
                    queries=_quantiles("vllm:time_to_first_token_seconds"),
                    unit="s",
                    width=6,
                    thresholds=[(TTFT_S, "red")],
                ),
                graph(
                    title="Inter-token latency",
                    shows="Between tokens as engines make them.",
                    act="good here and bad on Service: the routers or the network are slow.",
                    queries=_quantiles("vllm:inter_token_latency_seconds"),
                    unit="s",
                    width=6,
                    thresholds=[(ITL_S, "red")],
                ),
                graph(
                    title="Queue time in engines",
                    shows="From an engine's taking a request to its first step.",
                    act="more than a second: routers send more than engines can take.",
                    queries=_quantiles("vllm:request_queue_time_seconds"),
                    unit="s",
                    width=6,
                ),
                graph(
                    title="Prefill time",
                    shows="From a request's first step to its first token.",
                    act="it grows with the uncached prompt: see Routing's hit rate.",
                    queries=_quantiles("vllm:request_prefill_time_seconds"),
                    unit="s",
                    width=6,
                ),
            ],
        ),
        Row(
            "Prompts and answers",
            8,
            [
                graph(
                    title="What answers end with",
                    shows="stop: the model ended; length: max_tokens; abort: the client left or "
                    "the stream was moved; error: the engine failed; repetition: a loop.",
                    act="error is never normal: see the replica's log. Much length: clients' "
                    "max_tokens is small.",
                    queries=[
                        Query(
                            _rate("vllm:request_success_total", "finished_reason"),
                            "{{finished_reason}}",
                        )
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Prompt tokens by source",
                    shows="Computed here, or found in the cache.",
                    act="see Routing where the cached share falls.",
                    queries=[
                        Query(_rate("vllm:prompt_tokens_by_source_total", "source"), "{{source}}")
                    ],
                    unit="short",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Lengths",
                    shows="Tokens of prompts and answers, median and p99.",
                    act="they grew: the same number of requests is more work, and capacity that "
                    "was enough may not be.",
                    queries=[
                        Query(
                            f"histogram_quantile({quantile}, sum by (le) "
                            f"(rate({metric}_bucket{{{REPLICA}}}[$__rate_interval])))",
                            f"{name} {label}",
                        )
                        for metric, name in (
                            ("vllm:request_prompt_tokens", "prompt"),
                            ("vllm:request_generation_tokens", "answer"),
                        )
                        for quantile, label in ((0.5, "p50"), (0.99, "p99"))
                    ],
                    unit="short",
                    width=8,
                ),
            ],
        ),
    ],
)
