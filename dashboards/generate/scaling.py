"""The dashboard of autoscaling: the number of replicas, the reasons for it, and the cost."""

from dashboards.generate import variables
from dashboards.generate.dashboard import Row, dashboard
from dashboards.generate.matchers import MODEL, NAMESPACE
from dashboards.generate.panel import Query, graph, stat, timeline

_AUTOSCALING = "ray_mistral_serve_autoscaling"
"""Ray Serve's controller exports these metrics, for models with `autoscaling` only."""
_FIXED = "No autoscaling"
_NO_GPU = "No GPU"
_PRICE = "$usd_per_gpu_hour"

_GPUS = f'ray_resources{{{NAMESPACE},Name="GPU"}}'
_GPUS_USED = f'ray_resources{{{NAMESPACE},Name="GPU",State="USED"}}'
_TOKENS = f"mistral_serve_tokens_total{{{NAMESPACE}}}"


def _decision(name: str, by: str = "model", matchers: str = MODEL) -> str:
    return f"max by ({by}) ({_AUTOSCALING}_{name}{{{matchers}}})"


_UP = f"max by (model) (mistral_serve_available_replicas{{{MODEL}}})"
_AT_MAX = f'{MODEL},bound="max_replicas"'
_PODS = f'{NAMESPACE},pod=~".+-engine-worker-.+"'
_SCHEDULED = f"kube_pod_status_scheduled_time{{{_PODS}}}"
_DEPLOYMENTS = f'{NAMESPACE},deployment=~"Engine-.*|Router"'

DASHBOARD = dashboard(
    "scaling",
    "Scaling and cost",
    "The number of replicas and the reasons for it: demand, decisions, GPU-hours, cost of tokens.",
    [variables.NAMESPACE, variables.MODEL, variables.PRICE],
    [
        Row(
            "At a glance",
            5,
            [
                stat(
                    title="Replicas",
                    shows="Available replicas of all models.",
                    remedy="The graphs below show which model has fewer replicas than decided.",
                    queries=[Query(f"sum({_UP})")],
                    unit="none",
                    width=4,
                    decimals=0,
                    below="red",
                    thresholds=[(1, "green")],
                    empty="No router is scraped",
                ),
                stat(
                    title="Starting replicas",
                    shows="Replicas that were decided but are not available yet.",
                    remedy="If they take longer than a start (see Start-up time below), see "
                    "MistralReplicasFailToStart.",
                    queries=[Query(f"sum(clamp_min({_decision('replicas')} - {_UP}, 0))")],
                    unit="none",
                    width=4,
                    decimals=0,
                    thresholds=[(1, "blue")],
                    empty=_FIXED,
                ),
                stat(
                    title="At max_replicas",
                    shows="The number of models whose load needs more replicas than max_replicas "
                    "allows.",
                    remedy="See MistralNoScalingHeadroom.",
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
                    shows="The share of the GPUs of all nodes that replicas use.",
                    remedy="If it is low for hours, you pay for nodes without replicas. Check "
                    "`idleTimeoutSeconds` of the autoscaler.",
                    queries=[Query(f"sum({_GPUS_USED}) / (sum({_GPUS}) > 0)")],
                    unit="percentunit",
                    width=4,
                    decimals=0,
                    below="orange",
                    thresholds=[(0.8, "green")],
                    empty=_NO_GPU,
                ),
                stat(
                    title="Cost per hour",
                    shows="All GPUs of all nodes, used or idle, at the price set above.",
                    remedy="If it does not fall with the load, check what limits the scaling "
                    "decisions.",
                    queries=[Query(f"sum({_GPUS}) * {_PRICE}")],
                    unit="currencyUSD",
                    width=4,
                    below="blue",
                    empty=_NO_GPU,
                ),
                stat(
                    title="Cost per million tokens",
                    shows="The cost of prompt and output tokens together, over the selected time "
                    "range.",
                    remedy="It rises when GPUs are idle. Compare it with the same hours of "
                    "another day.",
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
            "Replica status",
            8,
            [
                graph(
                    title="Decided and available replicas",
                    shows="The replicas that the autoscaling policy decided on, and those that "
                    "are available.",
                    remedy="If the two stay apart, replicas do not start or there are no free "
                    "GPUs.",
                    queries=[
                        Query(_decision("replicas"), "{{model}} decided"),
                        Query(_UP, "{{model}} available"),
                    ],
                    unit="none",
                    width=12,
                    decimals=0,
                    empty="No router is scraped",
                ),
                timeline(
                    title="Deployment status",
                    shows="The status that Ray Serve reports for each deployment.",
                    remedy="If it is red for more than a few minutes or updating for an hour, "
                    "see MistralReplicasFailToStart.",
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
            "Scaling decisions",
            8,
            [
                graph(
                    title="Replicas that the load needs",
                    shows="The demand by the deciding signal (prefill, waiting requests, KV "
                    "cache or batch), divided by the target for one replica.",
                    remedy="If it is above the decision, the panel to the right names what "
                    "limits the decision.",
                    queries=[
                        Query(
                            f"{_decision('value', 'model, signal')}\n"
                            f"/ ({_decision('target', 'model, signal')} > 0)",
                            "{{model}} {{signal}}",
                        )
                    ],
                    unit="none",
                    width=12,
                    decimals=1,
                    empty=_FIXED,
                ),
                timeline(
                    title="What limits the decision",
                    shows="min_replicas and max_replicas are configured limits. running_streams, "
                    "recent_need, one_drain, idle_time, history and noise are reasons not to "
                    "remove a replica yet.",
                    remedy="For max_replicas, see MistralNoScalingHeadroom. The others are normal.",
                    queries=[
                        Query(f"{_decision('bound', 'model, bound')} == 1", "{{model}} {{bound}}")
                    ],
                    unit="none",
                    width=12,
                    empty="No limit",
                    states=[(1, "limits", "blue")],
                ),
            ],
        ),
        Row(
            "Start of a replica",
            8,
            [
                graph(
                    title="Start-up time",
                    shows="The measured time that a replica takes to start.",
                    remedy="If it grew, the weights come from a slower source. Autoscaling plans "
                    "ahead by this time, so it keeps more replicas in reserve.",
                    queries=[Query(_decision("startup_seconds"), "{{model}}")],
                    unit="s",
                    width=8,
                    empty=_FIXED,
                ),
                graph(
                    title="Start-up by phase",
                    shows="The slowest running pod and engine in each phase of its start. `pull` "
                    "includes the init containers, which wait for the weights and the head; "
                    "`other` has imports and the start of processes. The first two need "
                    "kube-state-metrics.",
                    remedy="node: no node is free. pull: the image is not on the node. weights: "
                    "the volume is slow. compile: the kernel caches are lost between starts.",
                    queries=[
                        Query(f"max({_SCHEDULED} - kube_pod_created{{{_PODS}}})", "node"),
                        Query(
                            f"max(kube_pod_status_initialized_time{{{_PODS}}} - {_SCHEDULED})",
                            "pull",
                        ),
                        Query(
                            f"max by (phase) (mistral_serve_engine_start_seconds{{{MODEL}}})",
                            "{{phase}}",
                        ),
                    ],
                    unit="s",
                    width=16,
                    stacked=True,
                    empty="No engine is scraped",
                ),
            ],
        ),
        Row(
            "Cost",
            8,
            [
                graph(
                    title="GPUs",
                    shows="The GPUs of all nodes, by whether a replica uses them.",
                    remedy="If GPUs stay AVAILABLE, nodes wait for replicas that do not start, "
                    "or idle nodes are not removed.",
                    queries=[Query(f"sum by (State) ({_GPUS})", "{{State}}")],
                    unit="none",
                    width=6,
                    stacked=True,
                    empty=_NO_GPU,
                ),
                graph(
                    title="GPU utilization",
                    shows="The share of the time in which each GPU computes, as its driver "
                    "reports it. A GPU that only decodes reaches 100 % too.",
                    remedy="If it is 0 on a GPU in use, see MistralEngineStalled.",
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
                    title="GPU-hours and their cost",
                    shows="All GPUs of all nodes over the selected time range.",
                    remedy="Compare the total with the GPU-hours in use.",
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
                    title="Hourly cost per million tokens",
                    shows="The cost of prompt and output tokens together, in each hour.",
                    remedy="It is high at night if min_replicas is more than the night needs.",
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
