"""Who uses how much."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import NAMESPACE, TENANT
from dashboards.generate.panel import Query, bars, graph, stat, table

_REQUESTS = f"mistral_serve_tenant_requests_total{{{TENANT}}}"
_TOKENS = "mistral_serve_tenant_tokens_total"
_ALL_TOKENS = f"mistral_serve_tenant_tokens_total{{{NAMESPACE}}}"
_GPUS = f'ray_resources{{{NAMESPACE},Name="GPU"}}'


def _tokens(kind: str) -> str:
    return f'{_TOKENS}{{{TENANT},type="{kind}"}}'


_OF_RANGE = f"sum by (tenant) (increase({_TOKENS}{{{TENANT}}}[$__range]))"
_SHARE = f"{_OF_RANGE}\n/ on () group_left () (sum(increase({_ALL_TOKENS}[$__range])) > 0)"
_COST = (
    f"{_SHARE}\n* on () group_left () (sum(avg_over_time({_GPUS}[$__range]))"
    f" * $__range_s / 3600 * $usd_per_gpu_hour)"
)
_NOBODY = "No requests"

DASHBOARD = dashboard(
    "tenants",
    "Tenants",
    "Who uses how much, by API key. Without configured tenants all are `default`.",
    [variables.NAMESPACE, variables.TENANT, variables.PRICE],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Tenants with requests",
                    shows="In the time shown.",
                    act="one is missing that should be there: its keys are refused with 401 "
                    "(`unauthorized` in the request log).",
                    queries=[
                        Query(
                            f"count(sum by (tenant) (increase({_REQUESTS}[$__range])) > 0) "
                            "or vector(0)"
                        )
                    ],
                    unit="none",
                    width=6,
                    decimals=0,
                    below="blue",
                    empty=_NOBODY,
                ),
                stat(
                    title="Requests",
                    shows="In the time shown, of those chosen.",
                    act="see below whose.",
                    queries=[Query(f"sum(increase({_REQUESTS}[$__range]))")],
                    unit="short",
                    width=6,
                    below="blue",
                    empty=_NOBODY,
                ),
                stat(
                    title="Tokens",
                    shows="Of prompts and answers, in the time shown, of those chosen.",
                    act="see below whose.",
                    queries=[Query(f"sum({_OF_RANGE})")],
                    unit="short",
                    width=6,
                    below="blue",
                    empty=_NOBODY,
                ),
                stat(
                    title="Largest share",
                    shows="Of all tokens in the time shown, what the tenant had that had most.",
                    act="near 100 % while others are refused: lower its `max_priority`, so that "
                    "the others go first.",
                    queries=[Query(f"max({_SHARE})")],
                    unit="percentunit",
                    width=6,
                    decimals=0,
                    below="blue",
                    empty=_NOBODY,
                ),
            ],
        ),
        Row(
            "In time",
            9,
            [
                graph(
                    title="Requests by tenant",
                    shows="Requests that end in a second, whatever their outcome.",
                    act="one jumps: ask its people, or lower its `max_priority`.",
                    queries=[
                        Query(
                            f"sum by (tenant) (rate({_REQUESTS}[$__rate_interval]))", "{{tenant}}"
                        )
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                    empty=_NOBODY,
                ),
                *(
                    graph(
                        title=f"{kind.capitalize()} tokens by tenant",
                        shows=means,
                        act=act,
                        queries=[
                            Query(
                                f"sum by (tenant) (rate({_tokens(kind)}[$__rate_interval]))",
                                "{{tenant}}",
                            )
                        ],
                        unit="short",
                        width=8,
                        stacked=True,
                        empty=_NOBODY,
                    )
                    for kind, means, act in (
                        (
                            "input",
                            "Tokens of prompts in a second, cached ones among them.",
                            "it grows and the requests do not: prompts grew, which costs prefill.",
                        ),
                        (
                            "output",
                            "Tokens of answers in a second: they hold the GPUs longest.",
                            "it grows and the requests do not: answers grew, see below.",
                        ),
                    )
                ),
            ],
        ),
        Row(
            "In the time shown",
            10,
            [
                table(
                    title="By tenant",
                    shows="Requests, tokens, share of all tokens, and that share of the cost of "
                    "all GPUs (0 where there are none).",
                    act="for a bill by model, or latency by tenant, add up the request log.",
                    queries=[
                        Query(f"sum by (tenant) (increase({_REQUESTS}[$__range]))", "requests"),
                        Query(
                            f"sum by (tenant) (increase({_tokens('input')}[$__range]))",
                            "input tokens",
                        ),
                        Query(
                            f"sum by (tenant) (increase({_tokens('output')}[$__range]))",
                            "output tokens",
                        ),
                        Query(f"100 * {_SHARE}", "% of tokens"),
                        Query(f"{_COST}\nor 0 * {_OF_RANGE}", "USD"),
                    ],
                    unit="short",
                    width=16,
                    decimals=1,
                    empty=_NOBODY,
                ),
                bars(
                    title="Tokens of a request",
                    shows="Of prompt and answer, on average.",
                    act="one is far above the others: its requests cost as much as many of theirs.",
                    queries=[
                        Query(
                            f"sort_desc({_OF_RANGE}\n/ (sum by (tenant) "
                            f"(increase({_REQUESTS}[$__range])) > 0))",
                            "{{tenant}}",
                        )
                    ],
                    unit="short",
                    width=8,
                    below="blue",
                    empty=_NOBODY,
                ),
            ],
        ),
    ],
)
