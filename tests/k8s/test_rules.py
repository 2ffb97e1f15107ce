"""Each rule of `mistral-serve deploy lint` notices what it is there for, one mistake at a time."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeDeploySchema

from serving.deploy.lint.rules import FIXES
from tests.k8s.manifests import ADD_ONS, K8S, base, cached
from tests.k8s.mistakes import (
    CLUSTER,
    CONTAINER,
    ENGINE,
    HEAD,
    REMOVE,
    ROUTER,
    change,
    changed,
    linted,
)
from tests.k8s.serve_configs import (
    of_model,
    of_router,
    serve_config,
    with_batches,
    with_deployment,
    with_engines,
    with_host_kv_cache,
    with_routers_fixed,
    with_tracing,
)

ENV, SECURITY = f"{CONTAINER}.env.0", f"{CONTAINER}.securityContext"
UPGRADE, OPTIONS = "spec.upgradeStrategy", f"{CLUSTER}.autoscalerOptions"
REDIS = f"{CLUSTER}.gcsFaultToleranceOptions"

Mistake = tuple[str, str, Any, str]
"""An object, the path of one of its values, what stands there by mistake, and what is said."""

RAY, JOB, STATE = "RayService mistral", "Job weights", "StatefulSet redis"
POD = "spec.template.spec"
CONF, CONF_KEY = "ConfigMap redis", "data.redis~conf"
CONFIG = "spec.serveConfigV2"


def in_steps(**options: Any) -> dict[str, Any]:
    good = {"stepSizePercent": 50, "intervalSeconds": 60, "gatewayClassName": "istio"}
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": good | options,
    }


MISTAKES: dict[str, list[Mistake]] = {
    "linter/malformed": [
        (RAY, HEAD, REMOVE, "RayService mistral-serve/mistral: the manifest"),
        (RAY, HEAD, REMOVE, "missing field 'headGroupSpec'"),
        (RAY, f"{ENGINE}.{CONTAINER}.image", REMOVE, "missing field 'image'"),
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "48GiB", "'48GiB' is no amount"),
        (RAY, f"{ENGINE}.maxReplicas", "many", "many"),
        ("Service redis", "spec.ports.0.port", None, "Service mistral-serve/redis: the manifest"),
        (JOB, "spec.template", [], "Job mistral-serve/weights: the manifest"),
        ("NetworkPolicy names", "spec.podSelector", "text", "NetworkPolicy mistral-serve/names:"),
        ("NetworkPolicy head-to-redis", "spec.egress.0.to", [{"ipBlock": {"cidr": "10"}}],
         "NetworkPolicy mistral-serve/head-to-redis: the manifest"),
    ],
    "references/namespace": [
        (RAY, "metadata.namespace", "mistral", "no manifest makes its namespace mistral")
    ],
    "references/no-namespace": [
        (JOB, "metadata.namespace", REMOVE, "would land in the current one")
    ],
    "references/cluster-wide": [
        ("PriorityClass mistral-serve", "metadata.namespace", "x", "belongs to the whole cluster")
    ],
    "references/duplicate": [("ServiceAccount workload", "metadata.name", "ray-head", "twice")],
    "references/missing": [
        (RAY, f"{HEAD}.template.spec.serviceAccountName", "head", "no ServiceAccount head"),
        (RAY, f"{ENGINE}.template.spec.priorityClassName", "high", "no PriorityClass high"),
        (JOB, f"{POD}.volumes.0.persistentVolumeClaim.claimName", "m", "PersistentVolumeClaim m"),
        (JOB, f"{POD}.volumes.1.configMap.name", "serve", "no ConfigMap serve"),
        (STATE, "spec.serviceName", "redis-headless", "no Service redis-headless"),
        ("RoleBinding reader", "roleRef.name", "viewer", "no Role viewer"),
        ("RoleBinding reader", "subjects.0", {"kind": "ServiceAccount", "name": "x"},
         "no ServiceAccount x"),
    ],
    "references/no-volume": [
        (RAY, f"{ENGINE}.template.spec.volumes.0.name", "memory", "mounts shm, which is no volume")
    ],
    "references/unused-volume": [
        (RAY, f"{ROUTER}.template.spec.volumes.0", {"name": "x"}, "volume x is mounted nowhere")
    ],
    "references/config-map-key": [
        (JOB, f"{POD}.volumes.1.configMap.items", [{"key": "a"}], "no key a in the ConfigMap")
    ],
    "references/secret-key": [
        (STATE, f"{POD}.containers.0.env.0.valueFrom.secretKeyRef.key", "pw",
         "the Secret redis-password has no key pw"),
        (RAY, f"{CLUSTER}.authOptions.secretName", "hf-token", "hf-token has no key auth_token"),
        (RAY, f"{REDIS}.redisPassword.valueFrom.secretKeyRef.key", "pw", "no key pw"),
    ],
    "references/topology-spread": [
        (RAY, f"{ENGINE}.template.metadata.labels.app~kubernetes~io/part-of", "x",
         "does not select it")
    ],
    "connections/redis-address": [
        (RAY, f"{REDIS}.redisAddress", "redis:6380", "no Service listens")
    ],
    "connections/target-port": [
        ("Service redis", "spec.ports.0.targetPort", "client", "has no port client"),
        ("PodMonitor ray-workers", "spec.podMetricsEndpoints.0.port", "http", "has no port http"),
    ],
    "connections/port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.containerPort", 8001, "nothing listens on its port")
    ],
    "connections/probe-port-name": [
        (RAY, f"{ROUTER}.{CONTAINER}.readinessProbe.httpGet.port", "http", "asks http, no port")
    ],
    "connections/probe-port": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.httpGet.port", 8000, "where nothing listens")
    ],
    "connections/clients-to-engine": [
        (RAY, f"{ENGINE}.{CONTAINER}.ports.0", {"name": "serve", "containerPort": 8000},
         "is behind the port 8000 for clients"),
        (RAY, "spec.serveService.spec.ports.0.targetPort", 8000, "is behind the port 8000"),
    ],
    "connections/clients-without-router": [
        (RAY, "spec.serveService.spec.ports.0.targetPort", "http", "no router is behind the port")
    ],
    "connections/selects-nothing": [
        ("PodDisruptionBudget engine", "spec.selector.matchLabels.x", "y", "selects no pod"),
        ("PodMonitor ray-head", "spec.selector.matchLabels.x", "y", "selects no pod"),
        ("Service redis", "spec.selector.app~kubernetes~io/component", "cache", "selects no pod"),
        ("NetworkPolicy names", "spec.podSelector.matchExpressions.0.values", ["x"],
         "selects no pod"),
    ],
    "connections/route-backend": [
        ("HTTPRoute mistral-serve", "spec.rules.0.backendRefs.0.port", 80, "no Service mistral-s")
    ],
    "network/blocked": [
        ("NetworkPolicy head-to-redis", "spec.egress.0.ports.0.port", 6380,
         "keep head from StatefulSet mistral-serve/redis on port 6379"),
        ("NetworkPolicy ray-nodes", "spec.ingress", [], "keep engine from router"),
        ("NetworkPolicy routers-to-redis", "spec.egress", [],
         "keep router from StatefulSet mistral-serve/redis on port 6379"),
    ],
    "network/open": [
        ("NetworkPolicy operator-to-head", "spec.ingress.0.from", REMOVE, "reaches port 8265")
    ],
    "connections/router-host": [
        (RAY, CONFIG, serve_config("host: 0.0.0.0\n", "host: 127.0.0.1\n"), "is 127.0.0.1"),
        (RAY, CONFIG, serve_config("        host: 0.0.0.0\n", ""), "is 127.0.0.1"),
        (RAY, CONFIG, serve_config("host: 0.0.0.0\n", "host: localhost\n"), "is localhost"),
    ],
    "connections/engine-host": [
        (RAY, CONFIG, of_model("host: 127.0.0.1"), "routers of other pods do not reach it")
    ],
    "outside/blocked": [
        ("NetworkPolicy names", "spec.egress", [], "head from names (DNS) on port 53 or 5353"),
        ("NetworkPolicy names", "spec.egress", [], "weights from names (DNS)"),
        ("NetworkPolicy operator-to-head", "spec.ingress", [],
         "keep KubeRay's operator from head on port 8265"),
        ("NetworkPolicy clients-to-routers", "spec.ingress", [],
         "keep clients from router on port 8000"),
        ("NetworkPolicy head-to-api-server", "spec.egress", [], "keep head from the API server"),
        ("NetworkPolicy weights-from-internet", "spec.egress", [],
         "weights from Hugging Face on port 443"),
        (RAY, CONFIG, with_tracing("http://otel.tracing:4318"),
         "engine from tracing.otlp_endpoint http://otel.tracing:4318 on port 4318"),
    ],
    "kuberay/name": [(RAY, "metadata.name", "mistral_serve", "a DNS-1035 label")],
    "kuberay/initializing-timeout": [
        (RAY, "metadata.annotations", {"ray.io/initializing-timeout": "soon"}, "no duration")
    ],
    "kuberay/deletion-delay": [(RAY, "spec.rayClusterDeletionDelaySeconds", -1, "negative")],
    "kuberay/ignored-field": [(RAY, "spec.serviceUnhealthySecondThreshold", 900, "ignores")],
    "kuberay/upgrade-type": [
        (RAY, f"{UPGRADE}.type", "RollingUpdate", "choose NewCluster")
    ],
    "kuberay/cluster-upgrade-strategy": [(RAY, f"{CLUSTER}.upgradeStrategy", {}, "of its own")],
    "kuberay/upgrade-options": [
        (RAY, f"{UPGRADE}.type", "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions")
    ],
    "kuberay/upgrade-autoscaler": [("", "", "", "needs Ray's autoscaler")],
    "kuberay/upgrade-surge": [(RAY, UPGRADE, in_steps(maxSurgePercent=101), "is 101")],
    "kuberay/upgrade-step": [
        (RAY, UPGRADE, in_steps(maxSurgePercent=25), "stepSizePercent is 50")
    ],
    "kuberay/upgrade-interval": [(RAY, UPGRADE, in_steps(intervalSeconds=0), "intervalSeconds")],
    "kuberay/upgrade-gateway": [(RAY, UPGRADE, in_steps(gatewayClassName=""), "gatewayClass")],
    "kuberay/head-service-name": [
        (RAY, f"{HEAD}.headService", {"metadata": {"name": "head"}}, "headService.metadata.name")
    ],
    "kuberay/head-ingress": [(RAY, f"{HEAD}.enableIngress", True, "to the world")],
    "kuberay/head-startup-probe": [
        (RAY, f"{HEAD}.{CONTAINER}.startupProbe", {}, "the Job that cleans Redis")
    ],
    "kuberay/serve-port": [(RAY, "spec.serveService", REMOVE, "no Service for clients")],
    "kuberay/head-proxy-health": [
        (RAY, "spec.excludeHeadPodFromServeSvc", False, "health of Serve's proxy")
    ],
    "kuberay/start-params-string": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", 1, "is not a string")
    ],
    "kuberay/start-params-resources": [
        (RAY, f"{ENGINE}.resources", {"CPU": "1"}, "both in rayStartParams and beside it")
    ],
    "kuberay/start-params-labels": [(RAY, f"{ENGINE}.rayStartParams.labels", "a=b", "labels")],
    "kuberay/group-bounds-missing": [("", "", "", "minReplicas and maxReplicas are required")],
    "kuberay/group-bounds-negative": [(RAY, f"{ENGINE}.minReplicas", -1, "is negative")],
    "kuberay/group-bounds-order": [(RAY, f"{ENGINE}.minReplicas", 5, "is above maxReplicas 4")],
    "kuberay/group-suspend": [(RAY, f"{ENGINE}.suspend", True, "cannot be suspended")],
    "kuberay/group-name": [(RAY, f"{ENGINE}.groupName", "router", "are named router")],
    "kuberay/redis-options": [("", "", "", "without gcsFaultToleranceOptions")],
    "kuberay/redis-twice": [
        (RAY, f"{HEAD}.{ENV}", {"name": "REDIS_PASSWORD"}, "REDIS_PASSWORD"),
        (RAY, f"{HEAD}.rayStartParams.redis-password", "x", "rayStartParams.redis-password"),
        (RAY, "metadata.annotations", {"ray.io/ft-enabled": "true"}, "ray.io/ft-enabled"),
    ],
    "kuberay/redis-backend": [
        (RAY, f"{REDIS}.backend", "rocksdb", "GCSFaultToleranceEmbeddedStorage"),
        (RAY, f"{REDIS}.storage", {}, "remove backend and storage"),
    ],
    "kuberay/redis-cleanup": [(RAY, "metadata.annotations", {}, "state stays in Redis")],
    "kuberay/redis-namespace": [
        (RAY, f"{REDIS}.externalStorageNamespace", "x", "have one state")
    ],
    "kuberay/autoscaler-off": [("", "", "", "the autoscaler is off")],
    "kuberay/autoscaler-version": [
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_enable_autoscaler_v2"}, "autoscalerOptions.version")
    ],
    "kuberay/restart-policy": [
        (RAY, f"{HEAD}.template.spec.restartPolicy", "Always", "can only be Never")
    ],
    "kuberay/autoscaler-idle": [(RAY, f"{OPTIONS}.idleTimeoutSeconds", -1, "negative")],
    "kuberay/autoscaler-command": [
        (RAY, f"{OPTIONS}.env", [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD"}], "itself")
    ],
    "kuberay/feature-gate": [
        (RAY, f"{CLUSTER}.networkPolicy", {}, "the feature gate RayClusterNetworkPolicy")
    ],
    "kuberay/k8s-token-auth": [
        (RAY, f"{CLUSTER}.authOptions.enableK8sTokenAuth", True, "in a RayService")
    ],
    "kuberay/token-ray-version": [(RAY, f"{CLUSTER}.rayVersion", "2.51.0", "rayVersion 2.52")],
    "kuberay/token-secret": [
        (RAY, f"{CLUSTER}.authOptions.secretName", REMOVE, "each upgrade has a new token")
    ],
    "security/secret-in-manifest": [("Service redis", "kind", "Secret", "a Secret stands in")],
    "security/host-namespace": [
        (RAY, f"{ENGINE}.template.spec.hostNetwork", True, "hostNetwork")
    ],
    "security/volume-kind": [
        (JOB, f"{POD}.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}, "not allowed")
    ],
    "security/token-automount": [
        (RAY, f"{HEAD}.template.spec.automountServiceAccountToken", True, "in all its containers")
    ],
    "security/default-service-account": [
        (JOB, f"{POD}.serviceAccountName", REMOVE, "default service account")
    ],
    "security/root": [
        (JOB, f"{POD}.securityContext.runAsNonRoot", False, "may run as root"),
        (JOB, f"{POD}.securityContext.runAsUser", 0, "may run as root"),
    ],
    "security/seccomp": [(JOB, f"{POD}.securityContext.seccompProfile", {}, "no seccomp profile")],
    "security/privileges": [(RAY, f"{ENGINE}.{SECURITY}.privileged", True, "may gain privileges")],
    "security/capabilities": [(RAY, f"{ENGINE}.{SECURITY}.capabilities", {}, "capabilities")],
    "security/root-file-system": [
        (RAY, f"{ROUTER}.{SECURITY}.readOnlyRootFilesystem", False, "root file system")
    ],
    "security/host-port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.hostPort", 8000, "a port of the node")
    ],
    "security/token-mounted": [
        (RAY, f"{ENGINE}.{CONTAINER}.volumeMounts.0.mountPath",
         "/var/run/secrets/kubernetes.io/serviceaccount", "that it does not need")
    ],
    "security/token-missing": [(RAY, f"{OPTIONS}.volumeMounts.2", REMOVE, "autoscaler: has no")],
    "security/image": [
        (RAY, f"{ENGINE}.{CONTAINER}.image", "mistral-serve:0.1.0", "a registry and a tag"),
        (RAY, f"{ENGINE}.{CONTAINER}.image", "r.example.com/mistral-serve", "a registry and a tag"),
    ],
    "security/secret-in-env": [
        (RAY, f"{ENGINE}.{ENV}", {"name": "HF_TOKEN", "value": "hf_x"}, "value of HF_TOKEN stands")
    ],
    "security/requests": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.requests.cpu", REMOVE, "requests no cpu")
    ],
    "security/limit-memory": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits", {}, "has no memory limit")
    ],
    "serve_config/ray-version": [(RAY, f"{CLUSTER}.rayVersion", "2.59.0", "rayVersion is not")],
    "serve_config/invalid": [
        (RAY, "spec.serveConfigV2", "applications: []", "serveConfigV2"),
        (RAY, "spec.serveConfigV2", "{", "serveConfigV2"),
        (RAY, "spec.serveConfigV2", "a: 1\na: 2", "serveConfigV2: not YAML: line 2: a stands"),
        (RAY, CONFIG, serve_config("app:build", "app:buidl"), "import_path: must be"),
        (RAY, CONFIG, serve_config(": Disabled", ": Disabeld"), "proxy_location: must be Disabled"),
        (RAY, CONFIG, serve_config(": Disabled", ": EveryNode"), "proxy_location: must be"),
        (RAY, CONFIG, serve_config("proxy_location", "proxy_locatoin"), "unknown field"),
        (RAY, CONFIG, serve_config("route_prefix", "rout_prefix"), "unknown field"),
        (RAY, CONFIG, of_model("max_model_len: 262144"), "262144 is above 131072"),
    ],
    "serve_config/proxy-location": [
        (RAY, CONFIG, serve_config("proxy_location: Disabled", ""), "has no proxy_location")
    ],
    "serve_config/vllm-args": [
        (RAY, CONFIG, of_model("vllm_args: {max-num-seqz: 8}"), "--max-num-seqz"),
        (RAY, CONFIG, of_model("vllm_args: {max-num-seqs: many}"), "--max-num-seqs"),
    ],
    "serve_config/other-config": [
        ("ConfigMap serve-config", "data.serve~yaml", "applications: []", "another config"),
        ("ConfigMap serve-config", "data.serve~yaml", "{", "another config"),
    ],
    "deployments/name": [
        (RAY, CONFIG, with_deployment("num_replicas: 3", "Engine-mistral-small-3.2"),
         "deployments[0].name: the application has no Engine-mistral-small-3.2, but Router, Eng"),
    ],
    "deployments/field": [
        (RAY, CONFIG, with_deployment("num_replica: 3"), "deployments[0].num_replica is no option")
    ],
    "deployments/autoscaling": [
        (RAY, CONFIG, with_deployment("autoscaling_config: {max_replicas: 3}"), "policy of scal"),
        (RAY, CONFIG, with_deployment("num_replicas: auto"), "policy of scaling"),
        (RAY, CONFIG, with_routers_fixed(with_engines(2, 3)), "by which engines scale"),
    ],
    "deployments/num-replicas": [
        (RAY, CONFIG, with_deployment("num_replicas: 3", "Router"), "of Router has no effect")
    ],
    "sizing/head-cpus": [(RAY, f"{HEAD}.rayStartParams.num-cpus", "4", "they die with it")],
    "sizing/router-pods": [(RAY, f"{ROUTER}.minReplicas", 1, "hold 1 of 2 routers")],
    "sizing/router-update": [
        (RAY, f"{ROUTER}.maxReplicas", 3, "no room for an update"),
        (RAY, CONFIG,
         with_deployment("autoscaling_config: {min_replicas: 5, max_replicas: 5}", "Router"),
         "10 must fit"),
        (RAY, CONFIG, with_deployment("autoscaling_config: null, num_replicas: 5", "Router"),
         "10 must fit"),
    ],
    "sizing/router-port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.containerPort", 8001, "is not the router's, 8000")
    ],
    "sizing/router-beside-engine": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", "4", "a router fits on its pods"),
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", REMOVE, "a router fits on its pods"),
    ],
    "sizing/engine-gpus": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.nvidia~com/gpu", "1", "pods with 2 GPUs")
    ],
    "sizing/engine-cpus": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", "2", "1 CPUs do not fill a pod of engine")
    ],
    "sizing/engine-pods": [
        (RAY, f"{ENGINE}.replicas", 3, "more pods than the 2 that are needed"),
        (RAY, CONFIG, with_engines(1, 3), "more pods than the 1 that are needed"),
        (RAY, CONFIG, with_deployment("num_replicas: 1"), "more pods than the 1 that are needed"),
    ],
    "sizing/engine-spare": [
        (RAY, f"{ENGINE}.maxReplicas", 2, "no pod can take over"),
        (RAY, CONFIG, with_engines(2, 4), "no pod can take over"),
        (RAY, CONFIG, with_deployment("num_replicas: 9"), "beside 9 in use"),
        (RAY, CONFIG, with_deployment("autoscaling_config: null, num_replicas: 9"), "beside 9"),
        (RAY, CONFIG, with_deployment("autoscaling_config: {max_replicas: 9}"), "beside 9 in use"),
    ],
    "sizing/shared-memory": [
        (RAY, CONFIG, with_host_kv_cache(10), "/dev/shm of 12 GiB does not hold host_kv_cache_gib")
    ],
    "sizing/memory": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "24Gi", "24 GiB do not hold")
    ],
    "sizing/object-store": [
        (RAY, f"{ROUTER}.rayStartParams.object-store-memory", "2000000000", "exceeds the shared")
    ],
    "sizing/budget": [
        ("PodDisruptionBudget engine", "spec.minAvailable", 2, "keeps 2 of 2"),
        (RAY, CONFIG, with_engines(1, 3), "keeps 1 of 1"),
        (RAY, CONFIG, with_deployment("num_replicas: 1"), "keeps 1 of 1"),
    ],
    "sizing/budget-kind": [
        ("PodDisruptionBudget router", "spec.maxUnavailable", 1, "minAvailable as a number")
    ],
    "sizing/quota": [
        ("ResourceQuota mistral-serve", "spec.hard.requests~nvidia~com/gpu", "8", "may need 16"),
        ("ResourceQuota mistral-serve", "spec.hard.pods", "10", "pods is 10"),
        ("ResourceQuota mistral-serve", "spec.hard.cpu", "10", "cpu is 10"),
        ("ResourceQuota mistral-serve", "spec.hard.limits~memory", "200Gi",
         "limits.memory is 200 GiB, and an upgrade may need 503.2 GiB"),
        ("ResourceQuota mistral-serve", "spec.hard.persistentvolumeclaims", "1", "may need 2"),
    ],
    "lifecycle/command": [
        (JOB, f"spec.{CONTAINER}.command.1", "weight", "No such command 'weight'"),
        (RAY, f"{ENGINE}.template.spec.initContainers.0.command.2", "--waits", "No such option"),
        (RAY, f"{ROUTER}.{CONTAINER}.lifecycle.preStop.exec.command.2",
         "exec mistral-serve drain-node --timeout 690", "No such option"),
    ],
    "lifecycle/deletion-delay": [
        (RAY, "spec.rayClusterDeletionDelaySeconds", 60, "an answer may take 600 s")
    ],
    "lifecycle/head-grace": [
        (RAY, f"{HEAD}.template.spec.terminationGracePeriodSeconds", 900, "is gone before")
    ],
    "lifecycle/drain": [(RAY, f"{ENGINE}.{CONTAINER}.lifecycle", {}, "not drained")],
    "lifecycle/grace-period": [
        (RAY, f"{ENGINE}.template.spec.terminationGracePeriodSeconds", 600, "killed after 600 s")
    ],
    "lifecycle/drain-time": [
        (RAY, f"{ENGINE}.{CONTAINER}.lifecycle.preStop.exec.command.2",
         "exec mistral-serve drain-node --within-s 600",
         "draining ends after 600 s, an answer after 630 s"),
    ],
    "lifecycle/readiness": [
        (RAY, f"{ENGINE}.{CONTAINER}.readinessProbe", REMOVE, "has no readinessProbe")
    ],
    "lifecycle/engine-ready": [(RAY, UPGRADE, in_steps(), "would send it clients' requests")],
    "lifecycle/liveness": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe", REMOVE, "has no livenessProbe")
    ],
    "lifecycle/liveness-patience": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.failureThreshold", 3, "while it loads a model")
    ],
    "lifecycle/liveness-replica": [
        (RAY, f"{ROUTER}.{CONTAINER}.livenessProbe.httpGet.port", "serve", "replica is away")
    ],
    "authentication/mount": [
        (RAY, f"{ROUTER}.{CONTAINER}.volumeMounts.4.subPath", "keys", "router: no volume is at"),
        (RAY, f"{ROUTER}.{CONTAINER}.volumeMounts.4.mountPath", "/etc/keys", "the keys_file /etc"),
        (RAY, CONFIG, of_router("tls: {certificate_file: /tls/tls.crt, key_file: /tls/tls.key}"),
         "no volume is at the tls.key_file /tls/tls.key"),
    ],
    "authentication/file": [
        (RAY, CONFIG, serve_config("/keys.json", "/key.json"),
         "the volume keys has admin-key, keys.json, not the keys_file"),
        (RAY, f"{ROUTER}.template.spec.volumes.4.projected.sources.1.secret.items.0.path", "admin",
         "the volume keys has admin, keys.json, not the admin_key_file"),
        (RAY, f"{ROUTER}.template.spec.volumes.4.projected.sources.1.secret.items", REMOVE,
         "the volume keys has key, keys.json, not the admin_key_file"),
    ],
    "folders/batches": [
        (RAY, CONFIG, with_batches("{}"), "each router would have its own files")
    ],
    "folders/no-volume": [
        (RAY, CONFIG, with_batches("{folder: /batches}"),
         "router: the router.batches.folder /batches is on no volume"),
        # The weights' volume, which routers only read.
        (RAY, CONFIG, with_batches("{folder: /models/batches}"), "is on no volume"),
    ],
    "folders/one-node": [
        ("PersistentVolumeClaim models", "spec.accessModes", ["ReadWriteOnce"],
         "is for pods of one node, not head, redis-cleanup, router, engine, "
         "Job mistral-serve/weights"),
    ],
    "responses/redis-address": [
        ("Service redis", "spec.ports.0.port", 6380, "redis_url redis://redis.mistral-serve.svc")
    ],
    "responses/password": [
        (RAY, f"{ROUTER}.{CONTAINER}.env", [], "no variable RESPONSES_REDIS_PASSWORD")
    ],
    "responses/memory": [
        (CONF, CONF_KEY, "maxmemory 600mb", "responses take up to 320 MiB, more than half"),
        (CONF, CONF_KEY, "", "more than half of Redis' maxmemory"),
        (CONF, CONF_KEY, "maxmemory 1gb\nmaxmemory-policy allkeys-lru", "may evict"),
    ],
}  # fmt: skip

WITHOUT_AUTOSCALER = (RAY, f"{CLUSTER}.enableInTreeAutoscaling", False, "")
FURTHER: dict[str, list[Mistake]] = {
    "kuberay/upgrade-autoscaler": [WITHOUT_AUTOSCALER, (RAY, UPGRADE, in_steps(), "")],
    "kuberay/group-bounds-missing": [
        WITHOUT_AUTOSCALER,
        (RAY, f"{ENGINE}.minReplicas", REMOVE, ""),
    ],
    "kuberay/autoscaler-off": [
        WITHOUT_AUTOSCALER,
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_enable_autoscaler_v2", "value": "1"}, ""),
    ],
    "kuberay/redis-options": [
        (RAY, REDIS, REMOVE, ""),
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}, ""),
    ],
}
"""Mistakes of several changes."""


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        pytest.param(rule, mistake, id=f"{rule} {mistake[1]}")
        for rule, mistakes in MISTAKES.items()
        for mistake in mistakes
    ],
)
def test_a_mistake_is_noticed(rule: str, mistake: Mistake) -> None:
    add_ons = [obj for name in ADD_ONS for obj in cached(K8S / name).objects]
    objects = copy.deepcopy([*base().objects, *add_ons])
    for each in FURTHER.get(rule, [mistake]):
        change(objects, *each[:-1])
    found = [each for each in linted(objects) if each.rule == rule]
    said = [f"{each.subject}: {each.message}; {each.fix[0]}" for each in found]
    assert any(mistake[-1] in each for each in said), linted(objects)


def test_engines_that_scale_have_the_pods_of_the_least_and_room_for_the_most() -> None:
    objects = changed(RAY, CONFIG, with_engines(2, 3))
    change(objects, "ConfigMap serve-config", "data.serve~yaml", with_engines(2, 3))
    assert linted(objects) == []


@pytest.mark.parametrize(
    "config",
    [
        with_deployment("num_replicas: 3"),
        with_deployment("autoscaling_config: null, num_replicas: 3"),
        with_routers_fixed(),
    ],
)
def test_numbers_beside_args_that_fit_are_no_mistake(config: str) -> None:
    objects = changed(RAY, CONFIG, config)
    change(objects, "ConfigMap serve-config", "data.serve~yaml", config)
    assert linted(objects) == []
    assert code_version(config) == code_version(base().service["spec"]["serveConfigV2"])
    assert code_version(with_engines(3, 3)) != code_version(config)


def code_version(serve_config: str) -> str:
    """Ray Serve replaces all replicas of an application if this changes."""
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(serve_config)).applications
    return get_app_code_version(application)


def test_a_model_without_a_group_is_not_said_to_need_no_pods() -> None:
    gpus = f"{ENGINE}.{CONTAINER}.resources.limits.nvidia~com/gpu"
    rules = {finding.rule for finding in linted(changed(RAY, gpus, "1"))}
    assert "sizing/engine-gpus" in rules
    assert not {"sizing/engine-pods", "sizing/engine-spare"} & rules


def paths(value: Any, start: str = "") -> Iterator[str]:
    """All places in an object, as `change` takes them."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        path = f"{start}{str(key).replace('.', '~')}"
        yield path
        if isinstance(each, dict | list):
            yield from paths(each, f"{path}.")


@pytest.mark.parametrize("value", [REMOVE, {}, "text"], ids=["missing", "empty", "text"])
def test_a_malformed_manifest_gives_findings_and_no_exception(value: object) -> None:
    service = base().service
    for path in random.Random(0).sample(sorted(paths(service["spec"], "spec.")), 30):
        linted(changed(RAY, path, value))


def test_each_rule_has_a_mistake() -> None:
    assert FIXES.keys() == MISTAKES.keys()
