"""The dashboard of tenants: how much each of them uses."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import NAMESPACE, TENANT
from dashboards.generate.panel import Query, bars, graph, stat, table

_REQUESTS = f"mistral_serve_tenant_requests_total{{{TENANT}}}"
_TOKENS = "mistral_serve_tenant_tokens_total"
_ALL_TOKENS = f"mistral_serve_tenant_tokens_total{{{NAMESPACE}}}"
_GPU_SECONDS = f"mistral_serve_tenant_gpu_seconds_total{{{TENANT}}}"
_CACHED = f"mistral_serve_tenant_cached_tokens_total{{{TENANT}}}"
_WASTED = f"mistral_serve_tenant_wasted_tokens_total{{{TENANT}}}"
_UNWRITTEN = f"mistral_serve_ledger_unwritten_entries{{{NAMESPACE}}}"
_GPUS = f'ray_resources{{{NAMESPACE},Name="GPU"}}'


def _tokens(kind: str) -> str:
    return f'{_TOKENS}{{{TENANT},type="{kind}"}}'


_IN_RANGE = f"sum by (tenant) (increase({_TOKENS}{{{TENANT}}}[$__range]))"
_SHARE = f"{_IN_RANGE}\n/ on () group_left () (sum(increase({_ALL_TOKENS}[$__range])) > 0)"
_COST = (
    f"{_SHARE}\n* on () group_left () (sum(avg_over_time({_GPUS}[$__range]))"
    f" * $__range_s / 3600 * $usd_per_gpu_hour)"
)
_NO_REQUESTS = "No requests"

DASHBOARD = dashboard(
    "tenants",
    "Tenants",
    "The usage of each tenant, by API key. If no tenants are configured, all is `default`.",
    [variables.NAMESPACE, variables.TENANT, variables.PRICE],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Active tenants",
                    shows="Tenants with requests in the selected time range.",
                    remedy="If an expected tenant is missing, its keys are rejected with 401 "
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
                    empty=_NO_REQUESTS,
                ),
                stat(
                    title="Requests",
                    shows="Requests of the selected tenants in the selected time range.",
                    remedy="The graphs below show which tenant sends them.",
                    queries=[Query(f"sum(increase({_REQUESTS}[$__range]))")],
                    unit="short",
                    width=6,
                    below="blue",
                    empty=_NO_REQUESTS,
                ),
                stat(
                    title="Tokens",
                    shows="Prompt and output tokens of the selected tenants in the selected time "
                    "range.",
                    remedy="The graphs below show which tenant uses them.",
                    queries=[Query(f"sum({_IN_RANGE})")],
                    unit="short",
                    width=6,
                    below="blue",
                    empty=_NO_REQUESTS,
                ),
                stat(
                    title="Largest share",
                    shows="The share of all tokens in the selected time range that the largest "
                    "tenant used.",
                    remedy="If it is near 100 % while requests of others are rejected, lower the "
                    "tenant's `max_priority` so that the others go first.",
                    queries=[Query(f"max({_SHARE})")],
                    unit="percentunit",
                    width=6,
                    decimals=0,
                    below="blue",
                    empty=_NO_REQUESTS,
                ),
            ],
        ),
        Row(
            "Usage over time",
            9,
            [
                graph(
                    title="Requests by tenant",
                    shows="Finished requests per second, with any outcome.",
                    remedy="If one tenant's rate jumps, contact the tenant or lower its "
                    "`max_priority`.",
                    queries=[
                        Query(
                            f"sum by (tenant) (rate({_REQUESTS}[$__rate_interval]))", "{{tenant}}"
                        )
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                    empty=_NO_REQUESTS,
                ),
                *(
                    graph(
                        title=f"{kind.capitalize()} tokens by tenant",
                        shows=shows,
                        remedy=remedy,
                        queries=[
                            Query(
                                f"sum by (tenant) (rate({_tokens(kind)}[$__rate_interval]))",
                                "{{tenant}}",
                            )
                        ],
                        unit="short",
                        width=8,
                        stacked=True,
                        empty=_NO_REQUESTS,
                    )
                    for kind, shows, remedy in (
                        (
                            "input",
                            "Prompt tokens per second, including cached ones.",
                            "If it grows and the requests do not, prompts grew, so prefill costs "
                            "more.",
                        ),
                        (
                            "output",
                            "Output tokens per second, which use most of the GPUs' time.",
                            "If it grows and the requests do not, answers grew.",
                        ),
                    )
                ),
            ],
        ),
        Row(
            "What it takes",
            9,
            [
                graph(
                    title="GPUs by tenant",
                    shows="GPU-seconds per second, as estimated by the usage ledger: the part of "
                    "the GPUs that works for each tenant.",
                    remedy="If one tenant's part grows, the graphs above show whether its requests "
                    "or their lengths did.",
                    queries=[
                        Query(
                            f"sum by (tenant) (rate({_GPU_SECONDS}[$__rate_interval]))",
                            "{{tenant}}",
                        )
                    ],
                    unit="short",
                    width=8,
                    stacked=True,
                    empty=_NO_REQUESTS,
                ),
                graph(
                    title="Cached share of prompts by tenant",
                    shows="The share of prompt tokens that engines found in their cache.",
                    remedy="If it falls, the tenant's prompts no longer begin alike: dates and ids "
                    "belong at a prompt's end.",
                    queries=[
                        Query(
                            f"sum by (tenant) (rate({_CACHED}[$__rate_interval]))\n"
                            f"/ (sum by (tenant) (rate({_tokens('input')}[$__rate_interval])) > 0)",
                            "{{tenant}}",
                        )
                    ],
                    unit="percentunit",
                    width=8,
                    empty=_NO_REQUESTS,
                ),
                graph(
                    title="Wasted tokens",
                    shows="Tokens per second that engines read again or generated for no client, "
                    "and that no tenant is billed for; and entries that are not on the disk.",
                    remedy="Waste after failures follows retries in Mistral / Service. Entries "
                    "that stay: see the page of MistralUsageNotWritten.",
                    queries=[
                        Query(
                            f"sum by (type) (rate({_WASTED}[$__rate_interval]))", "{{type}} tokens"
                        ),
                        Query(f"sum({_UNWRITTEN})", "entries not written"),
                    ],
                    unit="short",
                    width=8,
                    empty=_NO_REQUESTS,
                ),
            ],
        ),
        Row(
            "Usage in the selected time range",
            10,
            [
                table(
                    title="Usage by tenant",
                    shows="Requests, tokens, the share of all tokens, and the same share of the "
                    "cost of all GPUs (0 if there are none).",
                    remedy="`mistral-serve usage` has the bill, by API key and model as well. To "
                    "see one tenant's latency, aggregate the request log.",
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
                        Query(
                            f"sum by (tenant) (increase({_GPU_SECONDS}[$__range])) / 3600",
                            "GPU-hours",
                        ),
                        Query(f"100 * {_SHARE}", "% of tokens"),
                        Query(f"{_COST}\nor 0 * {_IN_RANGE}", "USD"),
                    ],
                    unit="short",
                    width=16,
                    decimals=1,
                    empty=_NO_REQUESTS,
                ),
                bars(
                    title="Tokens per request",
                    shows="The average number of prompt and output tokens per request.",
                    remedy="A tenant far above the others costs as much per request as many of "
                    "theirs.",
                    queries=[
                        Query(
                            f"sort_desc({_IN_RANGE}\n/ (sum by (tenant) "
                            f"(increase({_REQUESTS}[$__range])) > 0))",
                            "{{tenant}}",
                        )
                    ],
                    unit="short",
                    width=8,
                    below="blue",
                    empty=_NO_REQUESTS,
                ),
            ],
        ),
    ],
)
