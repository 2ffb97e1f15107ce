"""The service under test: its pods, its manifests, and the project's own commands on it."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from serving.cli.commands import app
from serving.deploy.errors import DeployError
from serving.deploy.follow import follow
from serving.deploy.kube import Kube
from serving.deploy.manifests import Manifests
from serving.deploy.pod_logs import COMPONENT
from tests.real_cluster.pod import Clients

Object = dict[str, Any]

LOOK_EVERY_S = 1.0
SETTLE_S = 3.0


class Service:
    """A service that the manifests describe, and clients of it."""

    clients: Clients
    """Set once it answers."""

    def __init__(self, kube: Kube, manifests: Manifests, timeout_min: int) -> None:
        self.kube = kube
        self.manifests = manifests
        self.namespace = manifests.namespace
        self.timeout_min = timeout_min

    @property
    def timeout_s(self) -> float:
        return 60.0 * self.timeout_min

    def pods(self, **labels: str) -> list[Object]:
        """Pods with these labels, given as `node_type="head"` for `ray.io/node-type`, that stay."""
        named = {"node_type": "ray.io/node-type", "component": COMPONENT}
        selector = ",".join(f"{named[key]}={value}" for key, value in labels.items())
        found = self.kube.find("v1", "Pod", self.namespace, selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def head(self) -> Object:
        (head,) = self.pods(node_type="head")
        return head

    def is_there(self, pod: Object) -> bool:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        found = self.kube.get("v1", "Pod", name, self.namespace)
        return found is not None and found["metadata"]["uid"] == uid

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Returns once the condition is true. Raises DeployError."""
        deadline_s = time.monotonic() + self.timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise DeployError(f"not within {self.timeout_min} minutes: {what}")
            time.sleep(LOOK_EVERY_S)

    def come_up(self, say: Callable[[str], None]) -> None:
        """Returns once all of it is up, for some seconds. Raises DeployError."""
        follow(self.kube, self.namespace, self.timeout_s, say, settle_s=SETTLE_S)

    def deploy(self, *arguments: str) -> int:
        """Runs `mistral-serve deploy` with these arguments; its exit status."""
        return app(["deploy", *arguments], standalone_mode=False) or 0

    def must_deploy(self, *arguments: str) -> None:
        """Raises DeployError unless the command ends well."""
        if self.deploy(*arguments):
            raise DeployError(f"`mistral-serve deploy {' '.join(arguments)}` failed")

    def changed(self, change: Callable[[Object], None]) -> Path:
        """Writes the manifests with another RayService into a folder that goes with this object."""
        folder = Path(tempfile.mkdtemp(prefix="test-cluster-"))
        weakref.finalize(self, shutil.rmtree, folder)
        service: Object = yaml.safe_load(yaml.safe_dump(self.manifests.service))
        change(service)
        objects = [
            service if each is self.manifests.service else each for each in self.manifests.objects
        ]
        (folder / "manifests.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
        self._next = Manifests(f"-f {folder}", tuple(objects))
        return folder

    def keep_change(self) -> None:
        """Makes the last change the state that further changes are made from."""
        self.manifests = self._next
