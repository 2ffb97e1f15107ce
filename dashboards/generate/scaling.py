"""How many replicas there are, why, and what they cost."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL, NAMESPACE
from dashboards.generate.panel import Query, graph, stat, timeline

_AUTOSCALING = "ray_mistral_serve_autoscaling"
"""Of Ray Serve's controller, of models with `autoscaling` alone."""
_FIXED = "No model scales"
_NO_GPU = "No GPU"
_PRICE = "$usd_per_gpu_hour"

_GPUS = f'ray_resources{{{NAMESPACE},Name="GPU"}}'
_GPUS_USED = f'ray_resources{{{NAMESPACE},Name="GPU",State="USED"}}'
_TOKENS = f"mistral_serve_tokens_total{{{NAMESPACE}}}"


def _decision(name: str, by: str = "model", matchers: str = MODEL) -> str:
    return f"max by ({by}) ({_AUTOSCALING}_{name}{{{matchers}}})"


_UP = f"max by (model) (mistral_serve_available_replicas{{{MODEL}}})"
_AT_MAX = f'{MODEL},bound="max_replicas"'
_DEPLOYMENTS = f'{NAMESPACE},deployment=~"Engine-.*|Router"'

DASHBOARD = dashboard(
    "scaling",
    "Scaling and cost",
    "How many replicas there are and why: demand, decisions, GPU-hours, cost of tokens.",
    [variables.NAMESPACE, variables.MODEL, variables.PRICE],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Replicas",
                    shows="That are given requests, of all models.",
                    act="see below which model has fewer than were decided.",
                    queries=[Query(f"sum({_UP})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="red",
                    thresholds=[(1, "green")],
                    empty="No router is scraped",
                ),
                stat(
                    title="On their way",
                    shows="Replicas that were decided and are not given requests yet.",
                    act="for longer than a start takes (Start-up below): "
                    "MistralReplicasFailToStart's page.",
                    queries=[Query(f"sum(clamp_min({_decision('replicas')} - {_UP}, 0))")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(1, "blue")],
                    empty=_FIXED,
                ),
                stat(
                    title="At max_replicas",
                    shows="Models whose load asks for more replicas than they may have.",
                    act="MistralNoScalingHeadroom's page.",
                    queries=[
                        Query(f"sum({_decision('bound', matchers=_AT_MAX)})"),
                    ],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(1, "orange")],
                    empty=_FIXED,
                ),
                stat(
                    title="GPUs in use",
                    shows="Of the GPUs of all nodes, the share that replicas have.",
                    act="low for hours: nodes without replicas cost as much. See the autoscaler's "
                    "`idleTimeoutSeconds`.",
                    queries=[Query(f"sum({_GPUS_USED}) / (sum({_GPUS}) > 0)")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="orange",
                    thresholds=[(0.8, "green")],
                    empty=_NO_GPU,
                ),
                stat(
                    title="Cost an hour",
                    shows="GPUs of all nodes, in use or not, at the price above.",
                    act="it does not fall with the load: see what bounds the decisions.",
                    queries=[Query(f"sum({_GPUS}) * {_PRICE}")],
                    unit="currencyUSD",
                    width=4,
                    below="blue",
                    empty=_NO_GPU,
                ),
                stat(
                    title="Cost of a million tokens",
                    shows="Of prompts and answers together, over the time shown.",
                    act="it rises when GPUs idle. Compare with the same hours of another day.",
                    queries=[
                        Query(
                            f"1e6 * sum(avg_over_time({_GPUS}[$__range])) * {_PRICE} "
                            "* ($__range_s / 3600)\n"
                            f"/ (sum(increase({_TOKENS}[$__range])) > 0)"
                        )
                    ],
                    unit="currencyUSD",
                    width=4,
                    decimals=2,
                    below="blue",
                    empty=_NO_GPU,
                ),
            ],
        ),
        Row(
            "What there is",
            8,
            [
                graph(
                    title="Decided and there",
                    shows="Replicas that the policy wants up or starting, and those that are given "
                    "requests.",
                    act="they stay apart: replicas do not start, or there are no GPUs.",
                    queries=[
                        Query(_decision("replicas"), "{{model}} decided"),
                        Query(_UP, "{{model}} there"),
                    ],
                    unit="none",
                    width=12,
                    decimals=0,
                    empty="No router is scraped",
                ),
                timeline(
                    title="What Ray Serve does",
                    shows="The state of each deployment.",
                    act="red for more than a few minutes, or updating for an hour: "
                    "MistralReplicasFailToStart's page.",
                    queries=[
                        Query(
                            f"max by (deployment) (ray_serve_deployment_status{{{_DEPLOYMENTS}}})",
                            "{{deployment}}",
                        )
                    ],
                    unit="none",
                    width=12,
                    empty="Ray is not scraped",
                    states=[
                        (0, "unknown", "text"),
                        (1, "deploy failed", "red"),
                        (2, "unhealthy", "red"),
                        (3, "updating", "blue"),
                        (4, "upscaling", "purple"),
                        (5, "downscaling", "yellow"),
                        (6, "healthy", "green"),
                    ],
                ),
            ],
        ),
        Row(
            "Why",
            8,
            [
                graph(
                    title="Replicas that the load asks for",
                    shows="The demand of the signal that decides (prefill, waiting, KV cache or "
                    "batch), over what a replica is to take of it.",
                    act="above the decision: something holds it back, which is named beside.",
                    queries=[
                        Query(
                            f"{_decision('value', 'model, signal')}\n"
                            f"/ ({_decision('target', 'model, signal')} > 0)",
                            "{{model}} {{signal}}",
                        )
                    ],
                    unit="none",
                    width=8,
                    decimals=1,
                    empty=_FIXED,
                ),
                timeline(
                    title="What holds the decision back",
                    shows="min_replicas, max_replicas: the configured limits. running_streams, "
                    "recent_need, one_drain, idle_time, history, noise: what keeps replicas from "
                    "being released.",
                    act="max_replicas: MistralNoScalingHeadroom's page. The others are normal.",
                    queries=[
                        Query(f"{_decision('bound', 'model, bound')} == 1", "{{model}} {{bound}}")
                    ],
                    unit="none",
                    width=8,
                    empty="Nothing does",
                    states=[(1, "holds", "blue")],
                ),
                graph(
                    title="Start-up",
                    shows="The time that a replica takes to start, as measured.",
                    act="it grew: weights come from a slower place. Scaling looks as far ahead as "
                    "this, so it takes more replicas in reserve.",
                    queries=[Query(_decision("startup_seconds"), "{{model}}")],
                    unit="s",
                    width=8,
                    empty=_FIXED,
                ),
            ],
        ),
        Row(
            "Cost",
            8,
            [
                graph(
                    title="GPUs",
                    shows="Of all nodes, by whether a replica has them.",
                    act="AVAILABLE for long: nodes wait for replicas that do not come, or are not "
                    "given back.",
                    queries=[Query(f"sum by (State) ({_GPUS})", "{{State}}")],
                    unit="none",
                    width=6,
                    stacked=True,
                    empty=_NO_GPU,
                ),
                graph(
                    title="GPU utilization",
                    shows="The share of the time that each GPU computes, as its driver says. A "
                    "GPU that only decodes is at 100 % too.",
                    act="0 on a GPU in use: MistralEngineStalled's page.",
                    queries=[
                        Query(
                            "avg by (instance, GpuIndex) "
                            f"(ray_node_gpus_utilization{{{NAMESPACE}}}) / 100",
                            "{{instance}} {{GpuIndex}}",
                        )
                    ],
                    unit="percentunit",
                    width=6,
                    max=1,
                    empty=_NO_GPU,
                ),
                stat(
                    title="GPU-hours, and their cost",
                    shows="Of all nodes, over the time shown.",
                    act="compare with the hours of GPUs in use.",
                    queries=[
                        Query(
                            f"sum(avg_over_time({_GPUS}[$__range])) * $__range_s / 3600",
                            "GPU-hours",
                        ),
                        Query(
                            f"sum(avg_over_time({_GPUS_USED}[$__range])) * $__range_s / 3600",
                            "in use",
                        ),
                        Query(
                            f"sum(avg_over_time({_GPUS}[$__range])) * $__range_s / 3600 * {_PRICE}",
                            "USD",
                        ),
                    ],
                    unit="none",
                    width=6,
                    decimals=1,
                    below="blue",
                    empty=_NO_GPU,
                ),
                graph(
                    title="Cost of a million tokens, hourly",
                    shows="Of prompts and answers together, each hour.",
                    act="it is high at night where min_replicas is more than the night needs.",
                    queries=[
                        Query(
                            f"1e6 * sum({_GPUS}) * {_PRICE}\n/ (sum(increase({_TOKENS}[1h])) > 0)",
                            "USD",
                        )
                    ],
                    unit="currencyUSD",
                    width=6,
                    decimals=2,
                    empty=_NO_GPU,
                ),
            ],
        ),
    ],
)
