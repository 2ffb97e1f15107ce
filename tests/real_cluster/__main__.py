"""`python -m tests.real_cluster OVERLAY`: installs the service on the cluster of the kubeconfig,
streams from it under each fault and operation, uninstalls it, and shows a table."""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from serving.cli.up import Progress
from serving.deploy import manifests
from serving.deploy.api_server import connect
from serving.deploy.check import address, failed_checks, probed
from serving.deploy.errors import DeployError, Unreachable
from serving.deploy.kube import Kube
from serving.deploy.serve_config import model_ids
from tests.real_cluster import pod
from tests.real_cluster.operations import OPERATIONS, Operation
from tests.real_cluster.report import Row, show
from tests.real_cluster.service import Service

_WIDTH = 140
_ROUTER_PORT = 8000


@contextlib.contextmanager
def installed(service: Service, source: Path, rows: list[Row], say: Progress) -> Iterator[None]:
    """The service, installed from nothing; adds a row for each step."""
    subprocess.run(["deploy/secrets.sh"], check=True)
    with _timed(rows, "preflight"):
        service.must_deploy("preflight", str(source))
    with _timed(rows, "apply to ready"):
        parts = _Parts(say)
        service.must_deploy("apply", str(source))
        service.come_up(parts)
    rows[-1:] = [*parts.rows(), rows[-1]]
    with address(service.kube, service.namespace, None) as url:
        with _timed(rows, "first answer"):
            if (found := probed(url, None, 1)).failures:
                raise DeployError(str(found))
        with _timed(rows, "conformance"):
            if failed := failed_checks(url, None, model_ids(service.manifests.service)):
                raise DeployError("; ".join(failed))
    yield


class _Parts:
    """Notes when each stage of a start last changed."""

    def __init__(self, say: Progress) -> None:
        self._say = say
        self._began_s = time.monotonic()
        self._at_s: dict[str, float] = {}

    def __call__(self, line: str) -> None:
        self._say(line)
        if not line.startswith(" "):
            self._at_s[line.partition(":")[0]] = time.monotonic() - self._began_s

    def rows(self) -> list[Row]:
        ordered = sorted(self._at_s.items(), key=lambda item: item[1])
        return [Row(f"  {stage}, from the start", at_s) for stage, at_s in ordered]


@contextlib.contextmanager
def _timed(rows: list[Row], name: str) -> Iterator[None]:
    began_s = time.monotonic()
    try:
        yield
    except DeployError as error:
        rows.append(Row(name, time.monotonic() - began_s, faults=(str(error),)))
        raise
    rows.append(Row(name, time.monotonic() - began_s))


def run(service: Service, operation: Operation, streams: int, tokens: int, say: Progress) -> Row:
    """Does an operation while clients stream, and waits until the service is up again."""
    name, within_s = operation.name, operation.within_s
    if lacks := operation.lacks(service):
        return Row(name, lacks=lacks)
    say(f"--- {name}")
    took_s, outcome, faults = None, None, []
    try:
        with contextlib.ExitStack() as stack:
            if operation.streams:
                outcome = stack.enter_context(service.clients.streaming(streams, tokens))
            began_s = time.monotonic()
            try:
                operation.happens(service)
            finally:
                took_s = time.monotonic() - began_s
            if not operation.last:
                service.come_up(say)
    except (DeployError, TimeoutError) as error:
        faults.append(str(error))
    if outcome is not None:
        faults += outcome.faults
    say(f"    {name}: {took_s or 0:.0f} s {outcome or ''} {faults or ''}")
    return Row(name, took_s, within_s, outcome, faults=tuple(faults))


def run_all(
    service: Service, operations: Iterable[Operation], streams: int, tokens: int, say: Progress
) -> Iterator[Row]:
    head, *_ = service.pods(node_type="head")
    name = service.manifests.service["metadata"]["name"]
    host = f"{name}-serve-svc.{service.namespace}.svc"
    (model, *_) = model_ids(service.manifests.service)
    with pod.clients(service.kube, head, host, _ROUTER_PORT, model) as service.clients:
        for operation in operations:
            yield run(service, operation, streams, tokens, say)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.real_cluster", description=__doc__)
    parser.add_argument("manifests", type=Path, help="k8s, or an overlay with your images")
    parser.add_argument("--only", action="append", default=[], help="part of an operation's name")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=400, help="tokens of an answer, at most")
    parser.add_argument("--timeout", type=int, default=60, metavar="MINUTES", help="of each step")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument(
        "--keep", action="store_true", help="take a service that is there, and leave it there"
    )
    args = parser.parse_args()
    console, say = Console(width=_WIDTH), Progress()
    rows: list[Row] = []
    try:
        kube = Kube(connect())
        where = f"{kube.server.host}, Kubernetes {kube.version()}, {args.manifests}"
    except Unreachable as error:
        print(f"skipped, as no cluster is reachable: {str(error).splitlines()[0]}")
        return
    chosen = [
        operation
        for operation in OPERATIONS
        if not args.only or any(name in operation.name for name in args.only)
        if not (args.keep and operation.last)
    ]
    try:
        service = Service(kube, manifests.read(args.manifests), args.timeout)
        there = kube.find("ray.io/v1", "RayService", service.namespace)
        if there and not args.keep:
            sys.exit(
                f"{service.namespace} has a service, which this would uninstall: delete it, choose "
                "another cluster, or leave it there with --keep"
            )
        with contextlib.nullcontext() if there else installed(service, args.manifests, rows, say):
            for row in run_all(service, chosen, args.streams, args.tokens, say):
                rows.append(row)
    except DeployError as error:
        print(error, file=sys.stderr)
    finally:
        show(console, where, rows)
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(not (rows and all(row.good for row in rows)))


if __name__ == "__main__":
    main()
