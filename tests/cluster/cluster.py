"""A cluster for a test: the server on a port, controllers that react, faults to set."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kubernetes
import yaml

from tests.cluster.api import Api
from tests.cluster.kubelet import Kubelet, PodFault
from tests.cluster.kuberay import KubeRay
from tests.cluster.schemas import Object, published_crds
from tests.cluster.server import Faults, Server
from tests.cluster.workloads import Workloads

KUBECTL = shutil.which("kubectl")
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class Cluster:
    """A Kubernetes cluster in this process, empty but for what every cluster has.

    It answers requests between `with` and its end; `folder` keeps its kubeconfig then, and what
    kubectl caches.
    """

    def __init__(self, folder: Path = Path(), crd_groups: tuple[str, ...] | None = None) -> None:
        self.api = Api()
        self.server = Server(self.api)
        self.folder = folder
        self.kubelet = Kubelet(self.api)
        self.kuberay = KubeRay(self.api)
        self.api.controllers += [Workloads(self.api), self.kuberay, self.kubelet]
        for crd in published_crds():
            if crd_groups is None or crd["spec"]["group"] in crd_groups:
                self.api.install_crd(crd)
        for namespace in ("default", "kube-system"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def __enter__(self) -> Self:
        self.server.start()
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.server.url)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.stop()
        if self.server.failures and error is None:
            raise self.server.failures[0]

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def faults(self) -> Faults:
        """What the server refuses or loses."""
        return self.server.faults

    def reconcile(self) -> None:
        """Lets the controllers see what a test changed by other ways than the API."""
        with self.api.store.changed:
            self.api.reconcile()

    def lose_watches(self) -> None:
        """Ends every watch that is open, as a connection that breaks does."""
        self.faults.watches_lost += 1
        with self.api.store.changed:
            self.api.store.changed.notify_all()

    def add_node(
        self, name: str, cpus: int = 32, memory: str = "256Gi", gpus: int = 0, product: str = ""
    ) -> None:
        """A node of that size; `product` as NVIDIA's feature discovery labels it."""
        labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(gpus)}
        amounts = {"cpu": str(cpus), "memory": memory, "pods": "110", "ephemeral-storage": "500Gi"}
        if gpus:
            amounts["nvidia.com/gpu"] = str(gpus)
        kind = self.api.kinds["", "nodes"]
        labels = {"kubernetes.io/hostname": name} | (labels if gpus else {})
        metadata = {"name": name, "labels": labels}
        self.api.create(kind, "", {"metadata": metadata, "spec": {}})
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        body = self.api.get(kind, "", name) | {"status": status}
        self.api.update(kind, "", name, body, status=True)

    def lose_node(self, name: str) -> None:
        """Has a node answer no longer: its pods are not ready, and stay."""
        kind = self.api.kinds["", "nodes"]
        node = self.api.get(kind, "", name)
        node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
        self.api.update(kind, "", name, node, status=True)
        for pod in self.api.store.objects(("", "pods")):
            if pod["spec"].get("nodeName") == name:
                gone = PodFault({}, phase="Running", name_end=pod["metadata"]["name"])
                self.kubelet.faults.append(gone)
        self.reconcile()

    def add_storage_class(self, name: str = "standard", *, default: bool = True) -> None:
        self.create(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": name,
                    "annotations": {_DEFAULT_CLASS: str(default).lower()},
                },
                "provisioner": "test.local/disk",
            }
        )

    def add_operator(self, version: str = "v1.7.0") -> None:
        """KubeRay's operator, as its Helm chart makes it, in `kuberay-system`."""
        namespace, labels = "kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"}
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        image = f"quay.io/kuberay/operator:{version}"
        spec = {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "containers": [{"name": "kuberay-operator", "image": image}],
                },
            },
        }
        metadata = {
            "name": "kuberay-operator",
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                "meta.helm.sh/release-name": "kuberay-operator",
                "meta.helm.sh/release-namespace": namespace,
            },
        }
        self.create(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        )

    @property
    def environment(self) -> dict[str, str]:
        """For a command that talks to this cluster."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
        }

    def client(self) -> kubernetes.client.ApiClient:
        """The Python client's, for this cluster."""
        made: kubernetes.client.ApiClient = kubernetes.config.new_client_from_config(
            str(self.kubeconfig)
        )
        return made

    def kubectl(
        self, *arguments: str, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        assert KUBECTL is not None
        return subprocess.run(
            [KUBECTL, *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def create(self, obj: Object) -> Object:
        """Creates an object as a client would; ApiError where it may not be."""
        kind = self.api.kind_of(obj["apiVersion"], obj["kind"])
        assert kind is not None, f"no kind {obj['kind']} of {obj['apiVersion']}"
        namespace = obj["metadata"].get("namespace", "default") if kind.namespaced else ""
        return self.api.create(kind, namespace, obj)[0]


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
