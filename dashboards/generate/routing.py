"""The dashboard of the routers: prefix cache hits, balance, request queues and recovery."""

from dashboards.generate import variables
from dashboards.generate.alerts import ROUTER_SATURATED as ALERT_SHARE
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL, NAMESPACE, REPLICA
from dashboards.generate.panel import Query, bars, graph, stat
from serving.router.telemetry.objectives import QUEUE_EDGES_S
from serving.scaling.router_load import SHORT

_RATE = "[$__rate_interval]"
_SHORT_S, _LONG_S = QUEUE_EDGES_S


def _rate(metric: str, by: str = "", matchers: str = MODEL) -> str:
    grouped = f"by ({by}) " if by else ""
    return f"sum {grouped}(rate({metric}{{{matchers}}}{_RATE}))"


_INPUT = f'{MODEL},type="input"'
_BOOKED = f"max by (model, replica) (mistral_serve_booked_tokens{{{REPLICA}}})"
_FOUND = "mistral_serve_cached_tokens_total"
_EXPECTED = "mistral_serve_expected_cached_tokens_total"
_QUEUE = "mistral_serve_queue_time_seconds"


def _waited(seconds: float) -> str:
    within = _rate(f"{_QUEUE}_bucket", matchers=f'{MODEL},le="{seconds}"')
    return f"1 - {within} / ({_rate(f'{_QUEUE}_count')} > 0)"


DASHBOARD = dashboard(
    "routing",
    "Routing",
    "How requests are routed: prefix cache hits, balance, request queues and recovery.",
    [variables.NAMESPACE, variables.MODEL, variables.REPLICA],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Cached prompt tokens",
                    shows="The share of the prompt tokens that the chosen replica had in its "
                    "prefix cache.",
                    remedy="If it drops without a change in traffic, replicas were replaced and "
                    "their caches are empty, or all caches together are too small for the "
                    "prompts that recur.",
                    queries=[
                        Query(
                            f"{_rate(_FOUND)}\n"
                            f"/ ({_rate('mistral_serve_tokens_total', matchers=_INPUT)} > 0)"
                        )
                    ],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="blue",
                ),
                stat(
                    title="Cache prediction",
                    shows="Cached tokens that the engines found, divided by those that the "
                    "routers expected when they chose the replicas.",
                    remedy="Far below 100 %, engines evict prefixes that the routers still "
                    "expect, so their KV caches are too small for the load; see the Engines "
                    "dashboard.",
                    queries=[Query(f"{_rate(_FOUND)}\n/ ({_rate(_EXPECTED)} > 0)")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="orange",
                    thresholds=[(0.7, "green")],
                    empty="No expected tokens",
                ),
                stat(
                    title="Imbalance",
                    shows="The booked tokens of the fullest replica, divided by the average of "
                    "its model.",
                    remedy="If it stays above 2 under load, one replica is ejected or slow; see "
                    "the panels below. It means nothing without load.",
                    queries=[
                        Query(
                            f"max(max by (model) ({_BOOKED})\n/ (avg by (model) ({_BOOKED}) > 0))"
                        )
                    ],
                    unit="none",
                    width=4,
                    decimals=2,
                    thresholds=[(2, "orange"), (4, "red")],
                    empty="No booked tokens",
                ),
                stat(
                    title="Queued requests",
                    shows="Requests that wait in the request queues of all routers.",
                    remedy="Check on the Scaling dashboard whether replicas are starting, and on "
                    "the Service dashboard whether requests are rejected.",
                    queries=[Query(f"sum(mistral_serve_queue_length{{{MODEL}}})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(10, "orange"), (100, "red")],
                    empty="No router is scraped",
                ),
                stat(
                    title="Retries",
                    shows="The share of requests that were sent to another replica because one "
                    "had failed. Routers stop retrying at 20 %, so that retries do not make an "
                    "outage worse.",
                    remedy="If it is above 0 without a rollout, replicas fail; "
                    "MistralEngineStalled explains how to find out which.",
                    queries=[
                        Query(
                            f"{_rate('mistral_serve_retries_total', matchers=NAMESPACE)}\n/ ("
                            f"{_rate('mistral_serve_requests_total', matchers=NAMESPACE)} > 0)"
                        )
                    ],
                    unit="percentunit",
                    width=4,
                    decimals=1,
                    thresholds=[(0.01, "orange"), (0.1, "red")],
                ),
                stat(
                    title="Routers",
                    shows="The number of routers that Prometheus can scrape.",
                    remedy="If there are fewer than `router.autoscaling` or `router.replicas` asks "
                    "for, run `kubectl -n mistral-serve "
                    "get pods -l app.kubernetes.io/component=router`.",
                    queries=[Query(f'sum(up{{component="router",{NAMESPACE}}}) or vector(0)')],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="red",
                    thresholds=[(1, "green")],
                    empty="No router is scraped",
                ),
            ],
        ),
        Row(
            "Prefix cache",
            8,
            [
                graph(
                    title="Cached tokens, expected and found",
                    shows="Cached prompt tokens as the routers expected them and as the engines "
                    "reported them afterwards.",
                    remedy="If fewer are found than expected, engines evict prefixes that the "
                    "routers still expect. If more are found, routers forget prefixes too early, "
                    "which does no harm.",
                    queries=[
                        Query(_rate(_EXPECTED, "model"), "{{model}} expected"),
                        Query(_rate(_FOUND, "model"), "{{model}} found"),
                    ],
                    unit="short",
                    width=12,
                ),
                graph(
                    title="Hit rate by replica",
                    shows="The share of the looked-up tokens that each engine found in its "
                    "prefix cache.",
                    remedy="A replica that is far below the others is new or was restarted.",
                    queries=[
                        Query(
                            f"{_rate('vllm:prefix_cache_hits_total', 'replica', REPLICA)}\n"
                            f"/ ({_rate('vllm:prefix_cache_queries_total', 'replica', REPLICA)}"
                            " > 0)",
                            "{{replica}}",
                        )
                    ],
                    unit="percentunit",
                    width=12,
                    max=1,
                ),
            ],
        ),
        Row(
            "Balance",
            8,
            [
                bars(
                    title="Booked tokens",
                    shows="The KV cache tokens that requests of all routers have booked on each "
                    "replica.",
                    remedy="If one replica is empty while others are full, it is new, or routers "
                    "ejected it because it failed (see `mistral-serve status`).",
                    queries=[Query(f"sort_desc({_BOOKED})", "{{replica}}")],
                    unit="short",
                    width=8,
                    below="blue",
                    empty="No replica",
                ),
                graph(
                    title="Running requests by replica",
                    shows="The requests in the batch of each engine.",
                    remedy="It may be uneven while booked tokens are even, because prompts "
                    "differ in length.",
                    queries=[
                        Query(
                            f"sum by (replica) (vllm:num_requests_running{{{REPLICA}}})",
                            "{{replica}}",
                        )
                    ],
                    unit="none",
                    width=8,
                    empty="No engine is scraped",
                ),
                graph(
                    title="Requests by router",
                    shows="Finished requests per second, by router.",
                    remedy="If one router has none, clients keep their connections to the "
                    "others, or its pod is not an endpoint of the Service.",
                    queries=[Query(_rate("mistral_serve_requests_total", "router"), "{{router}}")],
                    unit="reqps",
                    width=8,
                ),
            ],
        ),
        Row(
            "Queue and recovery",
            8,
            [
                graph(
                    title="Queue length by model",
                    shows="Requests in the routers' request queues, without those that wait "
                    "inside engines.",
                    remedy="If it does not fall within the start-up time of a replica, check the "
                    "Scaling dashboard for what limits the decision.",
                    queries=[
                        Query(
                            f"sum by (model) (mistral_serve_queue_length{{{MODEL}}})", "{{model}}"
                        )
                    ],
                    unit="none",
                    width=8,
                    empty="No router is scraped",
                ),
                graph(
                    title="Long queue times",
                    shows=f"The share of requests that spent more than {_SHORT_S:g} s and more "
                    f"than {_LONG_S:g} s in a request queue.",
                    remedy=f"If more than 10 % wait longer than {_LONG_S:g} s, see "
                    "MistralQueueSaturated.",
                    queries=[
                        Query(_waited(_SHORT_S), f"> {_SHORT_S:g} s"),
                        Query(_waited(_LONG_S), f"> {_LONG_S:g} s"),
                    ],
                    unit="percentunit",
                    width=8,
                    max=1,
                    thresholds=[(0.1, "orange")],
                ),
                graph(
                    title="Recovered and broken requests",
                    shows="Per second: retries, streams that another replica continued, those of "
                    "them that a draining replica handed over, and streams that broke.",
                    remedy="Broken streams could not be continued; see MistralStreamsBroken.",
                    queries=[
                        Query(_rate("mistral_serve_retries_total", matchers=NAMESPACE), "retries"),
                        Query(
                            _rate("mistral_serve_continued_streams_total", matchers=NAMESPACE),
                            "continued",
                        ),
                        Query(
                            _rate("mistral_serve_handed_over_streams_total", matchers=NAMESPACE),
                            "handed over",
                        ),
                        Query(
                            _rate(
                                "mistral_serve_requests_total", matchers=f'{MODEL},outcome="broken"'
                            ),
                            "broken",
                        ),
                    ],
                    unit="short",
                    width=8,
                ),
            ],
        ),
        Row(
            "Router processes",
            8,
            [
                graph(
                    title="Rewritten requests",
                    shows="normalised: converted to the form that the tokenizer accepts; "
                    "max_tokens_clamped: reduced to what fits the context; warned: a field was "
                    "dropped and the response has a warning.",
                    remedy="Many clamped requests mean that clients ask for more tokens than the "
                    "context has. None of these is an error.",
                    queries=[
                        Query(
                            _rate("mistral_serve_rewritten_requests_total", "rewrite", NAMESPACE),
                            "{{rewrite}}",
                        )
                    ],
                    unit="reqps",
                    width=8,
                ),
                graph(
                    title="Event loop by router",
                    shows="The share of its time for which the event loop of a router ran, or "
                    "waited for a CPU.",
                    remedy=f"Above {SHORT:.0%} routers are added if `router.autoscaling` allows; "
                    f"above {ALERT_SHARE:.0%} see MistralRouterSaturated.",
                    queries=[
                        Query(
                            _rate(
                                "mistral_serve_event_loop_busy_seconds_total", "router", NAMESPACE
                            ),
                            "{{router}}",
                        )
                    ],
                    unit="percentunit",
                    width=8,
                    max=1,
                    thresholds=[(ALERT_SHARE, "orange")],
                    empty="No router is scraped",
                ),
                graph(
                    title="Memory by router",
                    shows="The resident memory of each router.",
                    remedy="If it keeps growing under a steady load, keep the request log and "
                    "report a memory leak.",
                    queries=[
                        Query(
                            "sum by (router) (process_resident_memory_bytes"
                            f'{{component="router",{NAMESPACE}}})',
                            "{{router}}",
                        )
                    ],
                    unit="bytes",
                    width=8,
                    empty="No router is scraped",
                ),
            ],
        ),
    ],
)
