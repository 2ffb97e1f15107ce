"""The dashboard of the engines, from vLLM's own metrics: KV cache, batches, throughput, latency."""

from dashboards.generate import adapters, variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL, REPLICA
from dashboards.generate.panel import Query, graph, stat
from serving.router.telemetry.objectives import ITL_S, TTFT_S

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
    "The state of each engine: KV cache, batch, preemptions, prefill and decode rates, and loops.",
    [variables.NAMESPACE, variables.MODEL, variables.REPLICA],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Engines up",
                    shows="The number of engines that Prometheus can scrape.",
                    remedy="If there are fewer engines than replicas on the Scaling dashboard, "
                    "the missing ones are starting or do not respond; see MistralMetricsMissing.",
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
                    shows="The KV cache utilization of the engine with the least free space.",
                    remedy="Above 90 % with preemptions, see MistralKvCacheSaturated. A full "
                    "cache without preemptions is a replica that is used well.",
                    queries=[Query(f"max({_KV})")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    thresholds=[(0.9, "orange"), (0.98, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Running requests",
                    shows="The requests in the batches of all engines.",
                    remedy="If it is 0 while clients wait, see MistralEngineStalled.",
                    queries=[Query(f"sum({_RUNNING})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="blue",
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Waiting in engines",
                    shows="Requests that engines have accepted but cannot run yet. Usually there "
                    "are hardly any, because requests wait in the routers' request queues "
                    "instead.",
                    remedy="If there are more than a few, routers overestimate the free capacity "
                    "of the engines. Check KV cache and preemptions.",
                    queries=[Query(f"sum({_WAITING})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(5, "orange"), (50, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Preemptions per minute",
                    shows="Requests that an engine preempted because its KV cache was full, and "
                    "whose tokens it must compute again.",
                    remedy="If it happens more than occasionally, see MistralKvCacheSaturated.",
                    queries=[Query(f"60 * {_rate('vllm:num_preemptions_total', '')}")],
                    unit="none",
                    width=4,
                    decimals=1,
                    thresholds=[(1, "orange"), (10, "red")],
                    empty=_NOT_SCRAPED,
                ),
                stat(
                    title="Loops in the last hour",
                    shows="Answers that were stopped because they kept repeating the same text.",
                    remedy="Above 2 % of all answers, see MistralAnswersLoop.",
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
            "Deaths",
            7,
            [
                graph(
                    title="Engine deaths by reason",
                    shows="Engines that died with requests in their last steps.",
                    remedy="If a request is the cause, see MistralRequestsEndEngines.",
                    queries=[
                        Query(
                            "max by (model, reason) "
                            f"(increase(mistral_serve_engine_deaths_total{{{MODEL}}}[5m]))",
                            "{{model}} {{reason}}",
                        )
                    ],
                    unit="none",
                    width=12,
                ),
                graph(
                    title="Requests that end engines",
                    shows="Requests found to end engines, requests refused because of it, and "
                    "suspects that are being tried.",
                    remedy="See MistralRequestsEndEngines.",
                    queries=[
                        Query(
                            "sum by (model) (increase("
                            f"mistral_serve_poison_judged_requests_total{{{MODEL}}}[5m]))",
                            "{{model}} found",
                        ),
                        Query(
                            "sum by (model) (increase("
                            f"mistral_serve_poison_refused_requests_total{{{MODEL}}}[5m]))",
                            "{{model}} refused",
                        ),
                        Query(
                            f"sum by (model) (mistral_serve_poison_trials{{{MODEL}}})",
                            "{{model}} tried",
                        ),
                    ],
                    unit="none",
                    width=12,
                ),
            ],
        ),
        adapters.ROW,
        Row(
            "KV cache and batch",
            8,
            [
                graph(
                    title="KV cache",
                    shows="The KV cache utilization of each replica.",
                    remedy="If one replica is full and others are not, check the balance on the "
                    "Routing dashboard.",
                    queries=[Query(f"max by (replica) ({_KV})", "{{replica}}")],
                    unit="percentunit",
                    width=8,
                    max=1,
                    thresholds=[(0.9, "orange")],
                    empty=_NOT_SCRAPED,
                ),
                graph(
                    title="Batch size",
                    shows="The running requests of each replica.",
                    remedy="If it stays at max-num-seqs while the KV cache is not full, that "
                    "flag limits the throughput.",
                    queries=[Query(f"sum by (replica) ({_RUNNING})", "{{replica}}")],
                    unit="none",
                    width=8,
                    empty=_NOT_SCRAPED,
                ),
                graph(
                    title="Waiting and preempted requests",
                    shows="Requests that wait inside engines, by reason (capacity: no free KV "
                    "cache or batch slot; deferred: any other reason), and preemptions per "
                    "minute.",
                    remedy="If requests wait for capacity for a long time, see "
                    "MistralKvCacheSaturated.",
                    queries=[
                        Query(
                            f"sum by (reason) (vllm:num_requests_waiting_by_reason{{{REPLICA}}})",
                            "{{reason}}",
                        ),
                        Query(
                            f"60 * {_rate('vllm:num_preemptions_total', '')}",
                            "preemptions per minute",
                        ),
                    ],
                    unit="none",
                    width=8,
                    empty=_NOT_SCRAPED,
                ),
            ],
        ),
        Row(
            "Throughput",
            8,
            [
                graph(
                    title="Prefill rate",
                    shows="Prompt tokens computed per second, without those found in the cache.",
                    remedy="If one replica is slower than others with as many waiting requests, "
                    "check the clocks and temperature of its GPUs.",
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
                    shows="Output tokens generated per second.",
                    remedy="If it is 0 while requests are running, see MistralEngineStalled.",
                    queries=[Query(_rate("vllm:generation_tokens_total"), "{{replica}}")],
                    unit="short",
                    width=8,
                ),
                graph(
                    title="Tokens per step",
                    shows="The prompt and output tokens that an engine processes in one step. "
                    "Larger steps raise the throughput and the inter-token latency.",
                    remedy="If it stays at max-num-batched-tokens, prompts fill every step and "
                    "the inter-token latency is high. Add replicas or lower prefill_utilization.",
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
                    shows="The time as the engines measure it, without the wait in a router's "
                    "request queue.",
                    remedy="If it is good here and bad on the Service dashboard, requests wait "
                    "in the routers' queues. If it is bad here, prompts are long or prefill is "
                    "slow.",
                    queries=_quantiles("vllm:time_to_first_token_seconds"),
                    unit="s",
                    width=6,
                    thresholds=[(TTFT_S, "red")],
                ),
                graph(
                    title="Inter-token latency",
                    shows="The time between two tokens as the engines measure it.",
                    remedy="If it is good here and bad on the Service dashboard, the routers or "
                    "the network are slow.",
                    queries=_quantiles("vllm:inter_token_latency_seconds"),
                    unit="s",
                    width=6,
                    thresholds=[(ITL_S, "red")],
                ),
                graph(
                    title="Queue time in engines",
                    shows="The time from when an engine accepts a request to its first step.",
                    remedy="If it is more than a second, routers send more requests than the "
                    "engines can run.",
                    queries=_quantiles("vllm:request_queue_time_seconds"),
                    unit="s",
                    width=6,
                ),
                graph(
                    title="Prefill time",
                    shows="The time from a request's first step to its first token.",
                    remedy="It grows with the uncached part of the prompts; check the hit rate "
                    "on the Routing dashboard.",
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
                    title="Answers by finish reason",
                    shows="stop: the model ended the answer; length: it reached max_tokens; "
                    "abort: the answer ended at a stop string or as a loop, the client "
                    "disconnected, or the stream moved to another replica; "
                    "error: the engine failed; repetition: a request's own repetition_detection.",
                    remedy="An error is never normal: read the replica's log. Many answers with "
                    "length mean that clients set a small max_tokens.",
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
                    shows="Prompt tokens that were computed or found in the cache.",
                    remedy="If the cached share drops, see the Routing dashboard.",
                    queries=[
                        Query(_rate("vllm:prompt_tokens_by_source_total", "source"), "{{source}}")
                    ],
                    unit="short",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Prompt and answer lengths",
                    shows="The median and p99 of the tokens in prompts and answers.",
                    remedy="If they grew, the same number of requests is more work, and the "
                    "capacity may no longer be enough.",
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
