"""The way to a router's port through the API server."""

import socket
import socketserver
import threading
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from serving.deploy.api_server import connect
from serving.deploy.forward import forwarded
from serving.deploy.kube import Kube
from tests.cli.conftest import Deploy
from tests.cli.deployed import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.support.waiting import wait_for


class _Endless(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while True:
            try:
                self.request.sendall(bytes(65536))
            except OSError:
                return


def test_an_answer_that_is_given_up_ends_its_connection_without_a_traceback(
    ready: Cluster, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy("apply")
    tracebacks: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", tracebacks.append)
    pod = {"metadata": {"name": "redis-0", "namespace": NAMESPACE}}
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ready.server.ports[8000] = server.server_address[1]
        with forwarded(Kube(connect()), pod, 8000) as url:
            for _ in range(8):
                with closing(socket.create_connection(("127.0.0.1", urlsplit(url).port))) as near:
                    assert near.recv(1)
            wait_for(lambda: not _forwarding())
        server.shutdown()
    assert tracebacks == []


def _forwarding() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("Kubernetes port forward")]
