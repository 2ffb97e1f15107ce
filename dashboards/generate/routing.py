"""Where requests go: cached prompts found, replicas in balance, waiting, recovery."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL, NAMESPACE, REPLICA
from dashboards.generate.panel import Query, bars, graph, stat
from serving.router.objectives import QUEUE_EDGES_S

_RATE = "[$__rate_interval]"
_SHORT_S, _LONG_S = QUEUE_EDGES_S


def _rate(metric: str, by: str = "", matchers: str = MODEL) -> str:
    grouped = f"by ({by}) " if by else ""
    return f"sum {grouped}(rate({metric}{{{matchers}}}{_RATE}))"


_INPUT = f'{MODEL},type="input"'
_BOOKED = f"max by (model, replica) (mistral_serve_booked_tokens{{{REPLICA}}})"
_OF_CACHE = "mistral_serve_cached_tokens_total"
_EXPECTED = "mistral_serve_expected_cached_tokens_total"
_QUEUE = "mistral_serve_queue_time_seconds"


def _waited(seconds: float) -> str:
    within = _rate(f"{_QUEUE}_bucket", matchers=f'{MODEL},le="{seconds}"')
    return f"1 - {within} / ({_rate(f'{_QUEUE}_count')} > 0)"


DASHBOARD = dashboard(
    "routing",
    "Routing",
    "Where requests go and why: cached prompts, balance, the queue, and what is recovered.",
    [variables.NAMESPACE, variables.MODEL, variables.REPLICA],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Prompts from cache",
                    shows="Of the prompts' tokens, the share that the chosen replica had computed "
                    "before.",
                    act="it fell and the traffic did not change: replicas were replaced (their "
                    "caches are empty), or there are too few for what is asked about.",
                    queries=[
                        Query(
                            f"{_rate(_OF_CACHE)}\n"
                            f"/ ({_rate('mistral_serve_tokens_total', matchers=_INPUT)} > 0)"
                        )
                    ],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="blue",
                ),
                stat(
                    title="Found as expected",
                    shows="Cached tokens that the engines found, over those that the routers "
                    "expected where they sent the prompts.",
                    act="much below 1: engines evict what routers count on, so their KV caches are "
                    "too small for the load (Engines).",
                    queries=[Query(f"{_rate(_OF_CACHE)}\n/ ({_rate(_EXPECTED)} > 0)")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="orange",
                    thresholds=[(0.7, "green")],
                    empty="Nothing expected",
                ),
                stat(
                    title="Imbalance",
                    shows="Booked tokens of the fullest replica over the average of its model.",
                    act="above 2 for long under load: one replica is left out or slow, see the "
                    "panels below. Without load it means nothing.",
                    queries=[
                        Query(
                            f"max(max by (model) ({_BOOKED})\n/ (avg by (model) ({_BOOKED}) > 0))"
                        )
                    ],
                    unit="none",
                    width=4,
                    decimals=2,
                    thresholds=[(2, "orange"), (4, "red")],
                    empty="Nothing booked",
                ),
                stat(
                    title="In the queue",
                    shows="Requests that wait for room now, in all routers' lines.",
                    act="see Scaling for whether replicas come, Service for who is refused.",
                    queries=[Query(f"sum(mistral_serve_queue_length{{{MODEL}}})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(10, "orange"), (100, "red")],
                    empty="No router is scraped",
                ),
                stat(
                    title="Retries",
                    shows="Times that a replica was asked after one had failed, over requests. "
                    "Routers stop at a fifth, so that they make no outage worse.",
                    act="above 0 without a rollout: replicas fail; MistralEngineStalled's page "
                    "tells how to see which.",
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
                    shows="Routers that Prometheus reaches.",
                    act="fewer than configured: `kubectl -n mistral-serve get pods -l "
                    "app.kubernetes.io/component=router`.",
                    queries=[Query(f'sum(up{{component="router",{NAMESPACE}}}) or vector(0)')],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="red",
                    thresholds=[(1, "green")],
                    empty="None is scraped",
                ),
            ],
        ),
        Row(
            "Cache",
            8,
            [
                graph(
                    title="Cached tokens, expected and found",
                    shows="Of the prompts, as they were placed and as the engines told afterwards.",
                    act="found below expected: engines evict; above it: routers forget too soon, "
                    "which costs nothing.",
                    queries=[
                        Query(_rate(_EXPECTED, "model"), "{{model}} expected"),
                        Query(_rate(_OF_CACHE, "model"), "{{model}} found"),
                    ],
                    unit="short",
                    width=12,
                ),
                graph(
                    title="Hit rate by replica",
                    shows="Tokens that each engine found in its prefix cache, over those that it "
                    "looked up.",
                    act="one is far lower than the others: it is new, or it was restarted.",
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
                    shows="KV cache tokens that the requests of all routers have booked on each "
                    "replica now.",
                    act="one is empty while others are full: routers leave it out because it "
                    "failed (`mistral-serve status`), or it is new.",
                    queries=[Query(f"sort_desc({_BOOKED})", "{{replica}}")],
                    unit="short",
                    width=8,
                    below="blue",
                    empty="No replica",
                ),
                graph(
                    title="Requests that run",
                    shows="In each engine's batch.",
                    act="uneven while booked tokens are even is well: prompts differ in length.",
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
                    shows="Requests that end in a second, by router.",
                    act="one has none: clients keep their connections to the others, or it is not "
                    "behind the Service.",
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
                    title="Requests that wait",
                    shows="In each model's lines; not those inside engines.",
                    act="it does not fall within a replica's start-up time: see Scaling's bound.",
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
                    title="How long they waited",
                    shows=f"Shares of the requests that waited for more than {_SHORT_S:g} and "
                    f"{_LONG_S:g} s.",
                    act="the longer one above 10 %: MistralQueueSaturated's page.",
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
                    title="Recovered and lost",
                    shows="In a second: retries; streams that another replica went on with; "
                    "streams that ended unfinished.",
                    act="broken ones are what could not be continued: MistralStreamsBroken's page.",
                    queries=[
                        Query(_rate("mistral_serve_retries_total", matchers=NAMESPACE), "retries"),
                        Query(
                            _rate("mistral_serve_continued_streams_total", matchers=NAMESPACE),
                            "continued",
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
            "The routers themselves",
            8,
            [
                graph(
                    title="Rewritten requests",
                    shows="normalised: put into the form that the tokenizer takes; "
                    "max_tokens_clamped: the answer would not fit the context; warned: something "
                    "was left out and the client told.",
                    act="much clamping: clients ask for more than the context holds. None of it "
                    "is an error.",
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
                    title="CPU of a router",
                    shows="Cores that each router uses. It relays on one.",
                    act="near 1: add routers (`router.replicas`).",
                    queries=[
                        Query(
                            "sum by (router) (rate(process_cpu_seconds_total"
                            f'{{component="router",{NAMESPACE}}}{_RATE}))',
                            "{{router}}",
                        )
                    ],
                    unit="none",
                    width=8,
                    decimals=2,
                    thresholds=[(0.8, "orange")],
                    empty="No router is scraped",
                ),
                graph(
                    title="Memory of a router",
                    shows="Resident memory.",
                    act="it only ever grows under steady load: keep the request log and report it.",
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
