"""The dashboard of the service as its users see it, with the error budgets of its objectives."""

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
from serving.router.telemetry.objectives import DURATION_S, ITL_S, QUEUE_EDGES_S, TTFT_S

_BUDGET_DAYS = BUDGET_WINDOW.rstrip("d")


def _budget(objective: Objective) -> Panel:
    spent = f'{error_ratio(BUDGET_WINDOW)}{{{MODEL},slo="{objective.name}"}}'
    return stat(
        title=f"{objective.title} budget left",
        shows=f"How much of the error budget ({100 * objective.budget:g} % of the last "
        f"{_BUDGET_DAYS} days) is left for the model with the least. Below 0, the objective is "
        "missed.",
        remedy="Check the burn rate below. Above 1, something is wrong now and an alert names "
        "it. Otherwise the incident is over: avoid risky rollouts until this panel is green.",
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
    "The health of the service: objectives, error budgets, traffic, latency and refusals.",
    [variables.NAMESPACE, variables.MODEL],
    [
        Row(
            "Service health",
            5,
            [
                stat(
                    title="Availability, last hour",
                    shows="The share of the valid and admitted requests that received their "
                    f"whole answer. The objective is {AVAILABILITY.target:.1%}.",
                    remedy="See MistralAvailabilityBurn; `Requests by outcome` shows whether "
                    "requests fail at once or break off.",
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
                    shows="Finished requests per second, with any outcome.",
                    remedy="If there are none at a busy time, check whether clients reach the "
                    "routers (`kubectl -n mistral-serve get endpoints mistral-serve-svc`).",
                    queries=[Query(f"sum(rate({_REQUESTS}[$__rate_interval]))")],
                    unit="reqps",
                    width=4,
                ),
                stat(
                    title="Firing alerts",
                    shows="The number of firing alerts of this service.",
                    remedy="The table below names them; each has a runbook.",
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
                    shows="How many times faster than allowed the error budgets are spent. At a "
                    f"rate of 1 a budget lasts {_BUDGET_DAYS} days, at 14.4 two days.",
                    remedy="Above 14.4, the on-call engineer is paged. Read the runbook of the "
                    "objective's alert.",
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
                    title="List of firing alerts",
                    shows="The firing alerts by severity; each has a runbook in "
                    "dashboards/runbooks/.",
                    remedy="Start with the critical ones. Alerts that another alert explains are "
                    "not sent.",
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
            "Latency as clients see it",
            8,
            [
                graph(
                    title="Time to first token",
                    shows="For streams, the time from the request to the first bytes sent: the "
                    "median and p99 of the last minute or two, of the slowest router.",
                    remedy="Check whether requests wait (Queue below) or prefill is slow "
                    "(Engines dashboard). MistralTtftBurn lists the causes in order.",
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
                    shows="The gaps between the tokens of streams as they were sent: the median "
                    "and p99 of the last minute or two, of the slowest router.",
                    remedy="The batches or the prompts are too large for the replicas; see the "
                    "Engines dashboard and MistralItlBurn.",
                    queries=[
                        _quantile("inter_token_latency", "0.5"),
                        _quantile("inter_token_latency", "0.99"),
                    ],
                    unit="s",
                    width=8,
                    thresholds=[(ITL_S, "red")],
                ),
                graph(
                    title="Requests within the objectives",
                    shows=f"The shares of first tokens within {TTFT_S} s, of gaps between tokens "
                    f"within {ITL_S} s, and of whole answers within {DURATION_S:g} s.",
                    remedy="A whole answer may take long because the client asked for a long "
                    "one, so it has no objective. For the other two, see the panels to the left.",
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
                    shows="answered; client_gone: the client disconnected; invalid: the client's "
                    "error (4xx); refused: 429; failed: 5xx; broken: the answer began but did "
                    "not finish.",
                    remedy="failed and broken are errors of the service: the request log names "
                    "the replica. For refused, see Refusals by reason. Many client_gone "
                    "requests often mean that answers are too slow.",
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
                    shows="`unknown` counts requests for a model that is not served.",
                    remedy="If there are many `unknown` requests, a client uses a wrong model "
                    "name; the body of its 404 says so.",
                    queries=[
                        Query(f"sum by (model) (rate({_REQUESTS}[$__rate_interval]))", "{{model}}")
                    ],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                graph(
                    title="Tokens",
                    shows="Prompt tokens read and output tokens generated, per second.",
                    remedy="If the output drops while requests come in, engines are slow or "
                    "stalled; see the Engines dashboard.",
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
                    shows="Requests to all models that were not admitted, by their `x-refused` "
                    "header.",
                    remedy="queue_full and wait_too_long: there are too few replicas (Scaling "
                    "dashboard). no_replica: no replica is available. deadline_*: clients set "
                    "deadlines that cannot be met.",
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
                    title="Request queue",
                    shows="Requests that wait in the request queues of all routers, and how many "
                    f"per second leave a queue, admitted or not, after more than {_WAITED_S:g} s.",
                    remedy="If it grows for minutes, the load exceeds the capacity. Check on the "
                    "Scaling dashboard whether replicas are starting.",
                    queries=[
                        Query(
                            f"sum by (model) (mistral_serve_queue_length{{{MODEL}}})", "{{model}}"
                        ),
                        Query(
                            f"sum(rate({_QUEUE}_count{{{MODEL}}}[$__rate_interval])) - "
                            f'sum(rate({_QUEUE}_bucket{{{MODEL},le="{_WAITED_S}"}}'
                            "[$__rate_interval]))",
                            f"waited > {_WAITED_S:g} s (per second)",
                        ),
                    ],
                    unit="short",
                    width=8,
                ),
                graph(
                    title="Available replicas",
                    shows="For each model, the smallest number of available replicas that any "
                    "router reports.",
                    remedy="If it is 0, see MistralRouterWithoutReplicas. If it is below the "
                    "decision on the Scaling dashboard, replicas are starting, fail to start, or "
                    "are ejected (Routing dashboard).",
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
