"""`mistral-serve drain-node`: drains a Ray pod before it ends."""

import contextlib
import http.client
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from serving.cli.client import fail

_REPLICA = "ray::ServeReplica:"
"""The process name that Ray gives to a Serve replica."""
_TRY_S = 30
"""How long to retry, as the head may be restarting."""
_POLL_S = 1
_SETTLE_S = 10
"""If the whole cluster goes, its nodes ask to be drained within this time."""
_RPC_TIMEOUT_S = 10
_IDLE_S = 5
"""How long nothing must be in flight before a node stops without a successor."""
_SUCCESSOR_S = 180
"""How long a node with answers in flight waits for a first worker that does not drain: all of them
may have to leave one machine, and others are started for them.
"""
_HTTP_TIMEOUT_S = 2
_LOAD = re.compile(
    r"^(?:mistral_serve_(?:booked_tokens|queue_length)|vllm:num_requests_(?:running|waiting))"
    r"\{.*\} (\S+)$",
    re.M,
)
"""Gauges of the requests that run and that wait: a router's of all engines, an engine's own."""
_REASON = "the pod is being deleted"
_ALIVE = 0
"""GcsNodeInfo.ALIVE in Ray's gcs.proto."""

Within = Annotated[
    int, typer.Option(min=1, help="Seconds: less than the pod's terminationGracePeriodSeconds.")
]
Head = Annotated[
    bool, typer.Option("--head", help="This is the head: wait for the nodes that drain.")
]


@dataclass(frozen=True, slots=True)
class Node:
    """The Ray node on this machine."""

    node_id: str
    gcs_address: str


def drain_node(within_s: Within, head: Head = False) -> None:
    """Have Ray Serve move this node's replicas to other nodes, and wait until they have finished.

    Serve starts their successors first. The replicas stop when those are up, or early enough that
    each has its graceful_shutdown_timeout_s within the time. They do not wait for successors, but
    for their answers, if all other workers drain too and none comes, or if nothing is in flight
    here and other replicas are up or there is no other worker.
    """
    end_s = time.monotonic() + within_s
    node = find_node(psutil.process_iter())
    if node is None:
        raise fail("no Ray node runs on this machine: there is nothing to drain.")
    if head:
        wait_for_nodes(node, end_s)
        return
    typer.echo(f"draining node {node.node_id}")
    if ask_to_drain(node, within_s, within_s):
        wait_for_replicas(node, end_s)
    else:
        raise fail(
            "the node is not drained: its replicas end with this machine's Ray, and those of other "
            "nodes continue their streams"
        )


def find_node(processes: Iterable[psutil.Process]) -> Node | None:
    """Finds the Ray node among these processes, by the command line of its raylet."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command and Path(command[0]).name == "raylet":
                flags = dict(part.split("=", 1) for part in command[1:] if "=" in part)
                return Node(flags["--node_id"], flags["--gcs-address"])
    return None


def gcs_client(node: Node) -> Any:
    """Returns a client of Ray's head. Raises what Ray raises if the head does not answer."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    return GcsClient(address=node.gcs_address)


def ask_to_drain(node: Node, within_s: int, try_s: float) -> bool:
    """Returns whether Ray's head accepted the request, which it is asked for at most `try_s`."""
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
    deadline_ms = int((time.time() + within_s) * 1000)
    deadline_s = time.monotonic() + min(_TRY_S, try_s)
    while True:
        try:
            accepted, why_not = gcs_client(node).drain_node(
                node.node_id, reason, _REASON, deadline_ms
            )
            if not accepted:
                typer.echo(f"Ray refuses to drain the node: {why_not}")
            return bool(accepted)
        except Exception as error:  # Ray raises many types
            if time.monotonic() >= deadline_s:
                typer.echo(f"Ray's head does not answer, or refuses this machine: {error}")
                return False
            time.sleep(_POLL_S)


def wait_for_replicas(node: Node, end_s: float) -> None:
    """Returns when no replicas are left on this machine, or at the deadline."""
    reported: set[str] = set()
    began_s = busy_s = time.monotonic()
    waits = True
    while replicas := running_replicas(psutil.process_iter()):
        if replicas != reported:
            typer.echo(f"waiting for {', '.join(sorted(replicas))}")
            reported = replicas
        now_s = time.monotonic()
        if now_s >= end_s:
            typer.echo("the time is up")
            return
        if waits:
            if not is_idle(psutil.process_iter()):
                busy_s = now_s
            if why := no_successor(node, now_s - began_s, now_s - busy_s):
                typer.echo(f"{why}: the replicas stop without successors")
                # Serve stops a replica its graceful_shutdown_timeout_s before its node's deadline.
                ask_to_drain(node, 0, end_s - now_s)
                waits = False
        time.sleep(_POLL_S)
    typer.echo("no replicas are left")


def no_successor(node: Node, waited_s: float, idle_s: float) -> str:
    """Returns the reason not to wait for successors; "" to wait. `idle_s` is how long nothing has
    been in flight.
    """
    try:
        client = gcs_client(node)
        nodes = client.get_all_node_info(timeout=_RPC_TIMEOUT_S)
        draining = client.get_draining_nodes(timeout=_RPC_TIMEOUT_S)
    except Exception:  # Ray raises many types; the head may be restarting
        return ""
    alive = {
        node_id.hex()
        for node_id, info in nodes.items()
        if info.state == _ALIVE and not info.is_head_node
    }
    others = alive - {node.node_id}
    staying = others - draining.keys()
    idle = idle_s >= _IDLE_S
    if others and not staying and (idle or waited_s >= _SUCCESSOR_S):
        return "all other workers drain too"
    if idle:
        if not others:
            return "nothing is in flight on the only worker"
        if others_serve(client, node, staying):
            return "nothing is in flight, and other replicas are up"
    return ""


def others_serve(client: Any, node: Node, staying: Collection[str]) -> bool:
    """Returns whether each deployment with a replica on this node has a running one on those that
    stay, by Serve's status in Ray's dashboard.
    """
    try:
        address = client.internal_kv_get(b"dashboard", b"dashboard", timeout=_RPC_TIMEOUT_S)
        host, _, port = address.decode().rpartition(":")
        token = os.environ.get("RAY_AUTH_TOKEN", "")
        status = json.loads(get(host, int(port), "/api/serve/applications/", token))
        deployments = [
            [(replica["node_id"], replica["state"]) for replica in deployment["replicas"]]
            for application in status["applications"].values()
            for deployment in application["deployments"].values()
        ]
    except Exception:  # Ray raises many types; the dashboard may be away
        return False
    here = [found for found in deployments if any(at == node.node_id for at, _ in found)]
    return bool(here) and all(
        any(at in staying and state == "RUNNING" for at, state in found) for found in here
    )


def is_idle(processes: Iterable[psutil.Process]) -> bool:
    """Returns whether the replicas among these processes have nothing that runs or waits."""
    loads, silent, routed = [], False, False
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if deployment := _deployment(process):
                found = list(_loads(process))
                loads += found
                silent |= not found
                routed |= bool(found) and deployment.endswith(":Router")
    return (routed or not silent) and bool(loads) and not any(loads)


def _loads(process: psutil.Process) -> Iterator[float]:
    for at in process.net_connections("tcp"):
        if at.status == psutil.CONN_LISTEN:
            yield from map(float, _LOAD.findall(get(at.laddr.ip, at.laddr.port, "/metrics")))


def get(host: str, port: int, path: str, token: str = "") -> str:
    """Returns the body of an HTTP answer; "" if there is none, as at a port for other protocols."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(host, port, timeout=_HTTP_TIMEOUT_S)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read().decode(errors="replace")
    return ""


def running_replicas(processes: Iterable[psutil.Process]) -> set[str]:
    """Returns the deployments with a replica among these processes."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add(_deployment(process))
    return found - {""}


def _deployment(process: psutil.Process) -> str:
    """The application and deployment of a replica's process; "" for another process."""
    title = next(iter(process.cmdline()), "")
    if not title.startswith(_REPLICA):
        return ""
    return title.removeprefix(_REPLICA).partition(".")[0]


def wait_for_nodes(node: Node, end_s: float) -> None:
    """Returns when no node of the cluster drains, or at the deadline. If only the head is to go,
    that is soon: running replicas continue without it, and it comes back."""
    settled_s = time.monotonic() + _SETTLE_S
    reported = -1
    while time.monotonic() < end_s:
        try:
            draining = len(gcs_client(node).get_draining_nodes(timeout=_RPC_TIMEOUT_S))
        except Exception as error:  # Ray raises many types
            typer.echo(f"cannot reach the head: {error}")
            return
        if draining != reported:
            typer.echo(f"{draining} nodes are draining")
            reported = draining
        if not draining and time.monotonic() >= settled_s:
            return
        time.sleep(_POLL_S)
