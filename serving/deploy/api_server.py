"""Requests to the API server through the `kubernetes` client, which knows who the user is."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml

from serving.deploy.errors import Unreachable, refusal
from serving.deploy.objects import Object

_CONNECT_S, _READ_S = 10, 30
_HEADERS = " -+-+- "
"""The mark that websocket-client puts between a refusal and the whole answer."""


def connect(context: str | None = None) -> "ApiServer":
    """Connects by the user's kubeconfig or, in a pod, its service account. Raises Unreachable."""
    import kubernetes  # takes half a second

    configuration = kubernetes.client.Configuration()
    configuration.retries = urllib3.Retry(1, redirect=0)
    try:
        if kubeconfig := _kubeconfig():
            with _logged_errors() as errors:
                kubernetes.config.load_kube_config(kubeconfig, context, configuration)
            if errors:
                raise Unreachable(
                    f"the login that the kubeconfig names failed: {'; '.join(errors)}\nLog in "
                    "again as the cluster's provider says; `kubectl auth whoami` shows whether it "
                    "worked."
                )
        elif "KUBERNETES_SERVICE_HOST" in os.environ:
            kubernetes.config.load_incluster_config(configuration)
        else:
            raise Unreachable(
                "there is no kubeconfig: set KUBECONFIG to its path, or have your cluster's "
                "provider write ~/.kube/config"
            )
    except kubernetes.config.ConfigException as error:
        raise Unreachable(
            f"the kubeconfig has no usable context: {error}\nChoose another with KUBECONFIG or "
            "--context; `kubectl config get-contexts` lists them."
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise Unreachable(
            f"the kubeconfig cannot be read: {why}\n`kubectl config view` shows it."
        ) from None
    return ApiServer(kubernetes.client.ApiClient(configuration))


@contextlib.contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collects the errors that the root logger is given in the context: a program that logs in and
    fails is no more than that to the client, which goes on without credentials."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage().strip())

    collector, root = Collector(logging.ERROR), logging.getLogger()
    root.addHandler(collector)
    try:
        yield messages
    finally:
        root.removeHandler(collector)


def _kubeconfig() -> str:
    """Those files of KUBECONFIG's list that exist; "" without any."""
    listed = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return os.pathsep.join(each for each in listed.split(os.pathsep) if Path(each).is_file())


class ApiServer:
    """Sends requests; every failure is a DeployError that says what to do."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @property
    def host(self) -> str:
        return str(self.client.configuration.host)

    def own_api(self) -> Any:
        """A client for connections to pods: one is rebuilt for a moment to open a connection."""
        import kubernetes

        return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self.client.configuration))

    def request(self, method: str, path: str, what: str, **sent: Any) -> Object:
        """Returns the answer to a request. `what` names it in errors, such as "patch pods"; `sent`
        may have its `query`, its `body` and the body's `content_type`. Raises DeployError."""
        response = self._open(method, path, **sent)
        with self._connected():
            body = response.data
        if response.status >= 300:
            raise refusal(response.status, body, what)
        try:
            parsed: Object = json.loads(body)
        except ValueError:
            raise Unreachable(f"the server at {self.host} is not a Kubernetes API server") from None
        return parsed

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        read_s: float | None = _READ_S,
    ) -> urllib3.HTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            with self._connected():
                request = self.client.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                )
                opened = self.client.call_api(*request, _request_timeout=(_CONNECT_S, read_s))
        except Unreachable:
            raise
        except Exception as error:  # about credentials and certificates, of no common kind
            raise Unreachable(f"cannot connect to {self.host}: {first_line(error)}") from None
        response: urllib3.HTTPResponse = opened.response
        return response

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Raises Unreachable for a connection that is lost in the context."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            why = getattr(error, "reason", None) or error
            raise Unreachable(
                f"the cluster at {self.host} does not answer: {first_line(why)}\nIs it up, and is "
                "this the right context (`kubectl config current-context`)?"
            ) from None

    def lines(
        self, path: str, query: Mapping[str, str], *, endless: bool, what: str
    ) -> Iterator[str]:
        """The lines of an answer in plain text, as they arrive."""
        response = self._open("GET", path, query, read_s=None if endless else _READ_S)
        if response.status >= 300:
            raise refusal(response.status, response.data, what)
        rest = b""
        with self._connected():
            for piece in response.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")


def first_line(error: object) -> str:
    """The first line of an error's message, which may go on for pages."""
    text = str(error).partition(_HEADERS)[0].strip() or type(error).__name__
    return text.splitlines()[0][:300]
