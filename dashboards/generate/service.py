"""Is the service well? What users see of it, and what is left of the error budgets."""

from grafana_foundation_sdk.builders.stat import Panel

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL
from dashboards.generate.panel import Query, graph, stat, table
from dashboards.generate.slo import (
    AVAILABILITY,
    BUDGET_WINDOW,
    ITL,
    OBJECTIVES,
    TTFT,
    Objective,
    error_ratio,
)
from serving.router.objectives import DURATION_S, ITL_S, QUEUE_EDGES_S, TTFT_S

_BUDGET_DAYS = BUDGET_WINDOW.rstrip("d")


def _budget(objective: Objective) -> Panel:
    spent = f'{error_ratio(BUDGET_WINDOW)}{{{MODEL},slo="{objective.name}"}}'
    return stat(
        title=f"{objective.title} budget left",
        shows=f"Of the {100 * objective.budget:g} % of the last {_BUDGET_DAYS} days that may be "
        "bad, what is left, for the model that has least. Below 0 the objective is missed.",
        act="see the burn rate below: if it is above 1 something is wrong now, and an alert "
        "says what. If not, it is past: no risky rollouts until this is green.",
        queries=[Query(f"1 - max({spent}) / {objective.budget:.3g}")],
        unit="percentunit",
        width=4,
        decimals=0,
        below="red",
        thresholds=[(0, "orange"), (0.25, "green")],
    )


def _quantile(metric: str, quantile: str) -> Query:
    series = f'mistral_serve_recent_{metric}_seconds{{{MODEL},quantile="{quantile}"}}'
    percent = f"p{float(quantile) * 100:g}"
    return Query(f"max by (model) ({series} >= 0)", f"{{{{model}}}} {percent}")


_REQUESTS = f"mistral_serve_requests_total{{{MODEL}}}"
_QUEUE = "mistral_serve_queue_time_seconds"
_WAITED_S = QUEUE_EDGES_S[-1]

DASHBOARD = dashboard(
    "service",
    "Service",
    "Is it well: objectives, error budget, traffic, latency and refusals, as clients see them.",
    [variables.NAMESPACE, variables.MODEL],
    [
        Row(
            "Is it well?",
            5,
            [
                stat(
                    title="Availability, last hour",
                    shows="Of the requests that were let in and were right, the share that got "
                    f"their whole answer. The objective is {AVAILABILITY.target:.1%}.",
                    act="open MistralAvailabilityBurn's page; `Requests by outcome` says whether "
                    "they fail at once or break off.",
                    queries=[
                        Query(f'1 - max({error_ratio("1h")}{{{MODEL},slo="availability"}})'),
                    ],
                    unit="percentunit",
                    width=4,
                    decimals=2,
                    below="red",
                    thresholds=[(0.99, "orange"), (AVAILABILITY.target, "green")],
                ),
                *(_budget(objective) for objective in OBJECTIVES),
                stat(
                    title="Requests",
                    shows="Requests that end in a second, of any outcome.",
                    act="none while it should be busy: see whether clients reach the routers "
                    "(`kubectl -n mistral-serve get endpoints mistral-serve-svc`).",
                    queries=[Query(f"sum(rate({_REQUESTS}[$__rate_interval]))")],
                    unit="reqps",
                    width=4,
                ),
                stat(
                    title="Firing alerts",
                    shows="Alerts of this service that fire now.",
                    act="the table below names them, and each has a page of what to do.",
                    queries=[
                        Query(
                            'count(ALERTS{alertstate="firing",service="mistral-serve"}) '
                            "or vector(0)"
                        )
                    ],
                    unit="none",
                    width=4,
                    empty="No Prometheus",
                    thresholds=[(1, "orange"), (3, "red")],
                ),
            ],
        ),
        Row(
            "Objectives",
            7,
            [
                graph(
                    title="Burn rate, last hour",
                    shows="How many times faster than allowed the error budgets are spent. At 1 a "
                    f"budget is just gone after {_BUDGET_DAYS} days, at 14.4 after two.",
                    act="above 14.4 someone is woken. See which objective it is, and the page of "
                    "its alert.",
                    queries=[
                        Query(
                            f'max by (model) ({error_ratio("1h")}{{{MODEL},slo="{o.name}"}}) '
                            f"/ {o.budget:.3g}",
                            f"{o.title} {{{{model}}}}",
                        )
                        for o in OBJECTIVES
                    ],
                    unit="none",
                    width=12,
                    decimals=2,
                    thresholds=[(1, "orange"), (14.4, "red")],
                ),
                table(
                    title="Alerts that fire",
                    shows="By severity; each has a page in dashboards/runbooks/.",
                    act="critical ones first. What another one explains is not sent to anybody.",
                    queries=[
                        Query(
                            "max by (alertname, severity, model, replica, deployment) "
                            '(ALERTS{alertstate="firing",service="mistral-serve"})',
                            "now",
                        )
                    ],
                    unit="none",
                    width=12,
                    empty="No alert fires",
                    hidden=["Value", "Value #A"],
                ),
            ],
        ),
        Row(
            "Latency, as clients see it",
            8,
            [
                graph(
                    title="Time to first token",
                    shows="Of streams, from the request to the first bytes that were sent: median "
                    "and p99 of the last minute or two, of the slowest router.",
                    act="see whether requests wait (Queue below) or prefill is slow (Engines). "
                    "MistralTtftBurn's page has the order.",
                    queries=[
                        _quantile("time_to_first_token", "0.5"),
                        _quantile("time_to_first_token", "0.99"),
                    ],
                    unit="s",
                    width=8,
                    thresholds=[(TTFT_S, "red")],
                ),
                graph(
                    title="Inter-token latency",
                    shows="Gaps between the tokens of streams, as they were sent: median and p99 "
                    "of the last minute or two, of the slowest router.",
                    act="batches are too large or prompts too long for the replicas: see Engines, "
                    "and MistralItlBurn's page.",
                    queries=[
                        _quantile("inter_token_latency", "0.5"),
                        _quantile("inter_token_latency", "0.99"),
                    ],
                    unit="s",
                    width=8,
                    thresholds=[(ITL_S, "red")],
                ),
                graph(
                    title="Good answers",
                    shows=f"Shares of first tokens within {TTFT_S} s, of gaps within {ITL_S} s and "
                    f"of whole answers within {DURATION_S:g} s.",
                    act="whole answers may be long because they are asked for: no objective is set "
                    "on them. For the others see the panels beside.",
                    queries=[
                        Query(
                            f"sum(rate({name}_bucket{{{MODEL},"
                            f'le="{edge}"}}[$__rate_interval])) '
                            f"/ (sum(rate({name}_count{{{MODEL}}}[$__rate_interval])) > 0)",
                            label,
                        )
                        for name, edge, label in (
                            ("mistral_serve_time_to_first_token_seconds", TTFT_S, TTFT.title),
                            ("mistral_serve_inter_token_latency_seconds", ITL_S, ITL.title),
                            ("mistral_serve_request_duration_seconds", DURATION_S, "whole answers"),
                        )
                    ],
                    unit="percentunit",
                    width=8,
                    max=1,
                ),
            ],
        ),
        Row(
            "Traffic",
            8,
            [
                graph(
                    title="Requests by outcome",
                    shows="answered; client_gone: it left before; invalid: its fault (4xx); "
                    "refused: 429; failed: 5xx; broken: unfinished after it had begun.",
                    act="failed and broken are ours: the request log says which replica. refused: "
                    "see Refusals. Much client_gone often means that answers come too slowly.",
                    queries=[
                        Query(
                            f"sum by (outcome) (rate({_REQUESTS}[$__rate_interval]))",
                            "{{outcome}}",
                        )
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Requests by model",
                    shows="`unknown` are requests for a model that is not here.",
                    act="much `unknown`: a client has a wrong name, which its 404 tells it.",
                    queries=[
                        Query(f"sum by (model) (rate({_REQUESTS}[$__rate_interval]))", "{{model}}")
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Tokens",
                    shows="Tokens of prompts read and of answers generated, in a second.",
                    act="output falls while requests come: engines are slow or stalled (Engines).",
                    queries=[
                        Query(
                            f"sum by (type) (rate(mistral_serve_tokens_total{{{MODEL}}}"
                            "[$__rate_interval]))",
                            "{{type}}",
                        )
                    ],
                    unit="short",
                    width=8,
                ),
            ],
        ),
        Row(
            "Refusals and capacity",
            8,
            [
                graph(
                    title="Refusals by reason",
                    shows="Requests of all models that were not let in, by their `x-refused`.",
                    act="queue_full, wait_too_long: too few replicas (Scaling). no_replica: none "
                    "is up. deadline_*: clients ask for answers sooner than is possible.",
                    queries=[
                        Query(
                            "sum by (reason) (rate(mistral_serve_refused_requests_total"
                            '{namespace=~"$namespace"}[$__rate_interval]))',
                            "{{reason}}",
                        )
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Queue",
                    shows="Requests that wait for room, in the lines of all routers, and how many "
                    f"a second leave it, let in or not, after more than {_WAITED_S:g} s.",
                    act="it grows for minutes: more load than replicas. See Scaling for whether "
                    "more are coming.",
                    queries=[
                        Query(
                            f"sum by (model) (mistral_serve_queue_length{{{MODEL}}})", "{{model}}"
                        ),
                        Query(
                            f"sum(rate({_QUEUE}_count{{{MODEL}}}[$__rate_interval])) - "
                            f'sum(rate({_QUEUE}_bucket{{{MODEL},le="{_WAITED_S}"}}'
                            "[$__rate_interval]))",
                            f"waited > {_WAITED_S:g} s, a second",
                        ),
                    ],
                    unit="short",
                    width=8,
                ),
                graph(
                    title="Replicas that are given requests",
                    shows="By model, as the router sees it that sees fewest.",
                    act="0: MistralRouterWithoutReplicas. Fewer than Scaling decided: they start, "
                    "or fail to, or routers leave them out (Routing).",
                    queries=[
                        Query(
                            f"min by (model) (mistral_serve_available_replicas{{{MODEL}}})",
                            "{{model}}",
                        )
                    ],
                    unit="none",
                    width=8,
                    decimals=0,
                    empty="No router is scraped",
                ),
            ],
        ),
    ],
)
