"""A port of this machine that leads to a pod, as `kubectl port-forward` makes one."""

import contextlib
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator

from serving.deploy.api_server import first_line
from serving.deploy.errors import Denied, DeployError
from serving.deploy.kube import Kube
from serving.deploy.objects import Object

_CHUNK = 65536


def serve_port(pod: Object) -> int | None:
    """The port of a router's pod that clients talk to; None for a pod that is no router."""
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if str(port.get("name", "")).startswith("serve"):
                return int(port["containerPort"])
    return None


@contextlib.contextmanager
def forwarded(kube: Kube, pod: Object, port: int) -> Iterator[str]:
    """The URL that leads to the port while the context is open."""
    tunnel = _Tunnel(kube, pod, port)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), tunnel.handler()) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class _Tunnel:
    """Opens a connection through the API server for each connection of a local client."""

    def __init__(self, kube: Kube, pod: Object, port: int) -> None:
        self.pod, self.port = pod["metadata"], port
        self.api = kube.server.own_api()  # which opens one connection after the other
        self.opening = threading.Lock()

    def open(self) -> socket.socket:
        from kubernetes.stream import portforward

        with self.opening:
            forward = portforward(
                self.api.connect_get_namespaced_pod_portforward,
                self.pod["name"],
                self.pod["namespace"],
                ports=str(self.port),
            )
        opened: socket.socket = forward.socket(self.port)
        return opened

    def handler(self) -> type[socketserver.BaseRequestHandler]:
        tunnel = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # Failures have no common type; the client sees its connection end.
                with contextlib.suppress(Exception), contextlib.closing(tunnel.open()) as far:
                    try:
                        _join(self.request, far)
                    finally:
                        _drain(far)

        return Handler


def _join(near: socket.socket, far: socket.socket) -> None:
    """Carries bytes both ways until either side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(near.fileno(), selectors.EVENT_READ, (near, far))
        selector.register(far.fileno(), selectors.EVENT_READ, (far, near))
        while True:
            for key, _ in selector.select():
                source, target = key.data
                data = source.recv(_CHUNK)
                if not data:
                    return
                target.sendall(data)


def _drain(far: socket.socket) -> None:
    """Ends a connection through the API server. The kubernetes package shows a traceback if that is
    closed before it has handed over all that has come."""
    far.shutdown(socket.SHUT_WR)
    while far.recv(_CHUNK):
        pass


def reachable(kube: Kube, pod: Object, port: int) -> None:
    """Checks that the pod's port can be reached through the API server. Raises DeployError."""
    tunnel = _Tunnel(kube, pod, port)
    try:
        tunnel.open().close()
    except Exception as error:  # of websocket-client and kubernetes, of no common kind
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        kind = Denied if "403" in str(error) else DeployError
        raise kind(
            f"cannot reach {name}:{port} through the API server: {first_line(error)}\n"
            "Give the service's address with --url if it can be reached from here."
        ) from None
