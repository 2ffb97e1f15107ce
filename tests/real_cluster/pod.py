"""A pod of clients in a namespace of their own, and commands in pods."""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube
from serving.deploy.objects import is_ready
from tests.real_cluster.clients import BEGUN, STOP, STRUCK
from tests.support.waiting import wait_for

Object = dict[str, Any]

NAMESPACE = "mistral-serve-test"
_NAME = "clients"
_ROOT = Path(__file__).parents[2]
_FILES = ("tests/faults/load.py", "tests/real_cluster/clients.py")
_START_TIMEOUT_S = 600
_END_TIMEOUT_S = 700


def execute(kube: Kube, pod: Object, *command: str) -> str:
    """Runs a command in a pod's first container and returns its output. Raises DeployError."""
    import kubernetes
    from kubernetes.stream import stream

    metadata = pod["metadata"]
    # A client of its own: to open the connection it is rebuilt for a moment.
    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(kube.server.client.configuration))
    try:
        channel = stream(
            api.connect_get_namespaced_pod_exec,
            metadata["name"],
            metadata["namespace"],
            container=pod["spec"]["containers"][0]["name"],
            command=list(command),
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            _preload_content=False,
        )
        channel.run_forever()
        status = channel.returncode  # before the output, with which the client forgets it
        output: str = channel.read_all()
    except Exception as error:  # of websocket-client and kubernetes, of no common kind
        raise DeployError(f"cannot exec in {metadata['name']}: {error}") from None
    if status:
        raise DeployError(f"{' '.join(command)} in {metadata['name']}: {output.strip()}")
    return output


@dataclass
class Outcome:
    """What became of the streams."""

    in_flight: int = 0
    answers: int = 0
    refused: int = 0
    dropped: int = 0
    truncated: int = 0
    silence_s: float = 0.0
    faults: list[str] = field(default_factory=list)


class Clients:
    """A pod that streams from a service at `host` and `port`."""

    def __init__(self, kube: Kube, pod: Object, host: str, port: int, model: str) -> None:
        self._kube = kube
        self._pod = pod
        self._command = ("python", "-m", "tests.real_cluster.clients", host, str(port), model)

    def replicas(self) -> list[str]:
        """The engines that a router knows; none if no router answers."""
        found: list[str] = json.loads(execute(self._kube, self._pod, *self._command))
        return found

    @contextlib.contextmanager
    def streaming(self, streams: int, tokens: int) -> Iterator[Outcome]:
        """Streams without pause inside the context; the outcome is complete after it."""
        folder, ended = f"/tmp/clients-{uuid.uuid4().hex[:8]}", threading.Event()
        outcome, errors = Outcome(), list[Exception]()
        options = (f"--streams={streams}", f"--tokens={tokens}", f"--folder={folder}")

        def stream() -> None:
            try:
                printed = execute(self._kube, self._pod, *self._command, *options)
                vars(outcome).update(json.loads(printed.splitlines()[-1]))
            except (DeployError, ValueError, IndexError) as error:
                errors.append(error)
            finally:
                ended.set()

        def touch(name: str) -> None:
            if not ended.is_set():
                execute(self._kube, self._pod, "touch", f"{folder}/{name}")

        threading.Thread(target=stream, daemon=True).start()
        begun = (
            f"for _ in $(seq {_START_TIMEOUT_S}); do [ -e {folder}/{BEGUN} ] && exit; sleep 1; done"
        )
        execute(self._kube, self._pod, "sh", "-c", begun)
        touch(STRUCK)
        try:
            yield outcome
        finally:
            touch(STOP)
            ended.wait(_END_TIMEOUT_S)
            execute(self._kube, self._pod, "rm", "-rf", folder)
        if errors or not ended.is_set():
            raise DeployError(f"the clients did not end well: {errors or 'not in time'}")


@contextlib.contextmanager
def clients(kube: Kube, head: Object, host: str, port: int, model: str) -> Iterator[Clients]:
    """A pod of clients, in a namespace that may reach the routers; both are gone afterwards. It has
    the image of the head, and its priority: where a second cluster needs all the room that there
    is, pods without one make way for it."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"mistral-serve/client": "true"}},
    }
    metadata = {"name": _NAME, "namespace": NAMESPACE}
    files = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {Path(name).name: (_ROOT / name).read_text() for name in _FILES},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "priorityClassName": head["spec"].get("priorityClassName"),
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": _NAME,
                    "image": head["spec"]["containers"][0]["image"],
                    "command": ["sleep", "infinity"],
                    "env": [{"name": "PYTHONPATH", "value": "/clients"}],
                    "resources": {"requests": {"cpu": "200m", "memory": "128Mi"}},
                    "volumeMounts": [{"name": "files", "mountPath": "/clients"}],
                }
            ],
            "volumes": [
                {
                    "name": "files",
                    "configMap": {
                        "name": _NAME,
                        "items": [{"key": Path(name).name, "path": name} for name in _FILES],
                    },
                }
            ],
        },
    }
    for each in (namespace, files, pod):
        kube.apply(each)

    def ready() -> bool:
        found = kube.get("v1", "Pod", _NAME, NAMESPACE)
        return found is not None and is_ready(found)

    try:
        wait_for(ready, _START_TIMEOUT_S, "the clients' pod runs")
        yield Clients(kube, pod, host, port, model)
    finally:
        kube.delete(namespace)
        wait_for(
            lambda: kube.get("v1", "Namespace", NAMESPACE) is None,
            _START_TIMEOUT_S,
            "the clients' namespace is gone",
        )
