"""An OpenTelemetry collector on a loopback port that records the spans it receives."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.http_server import BackgroundServer, Request, answering, response


@dataclass(frozen=True)
class Received:
    """A span. Ids are hexadecimal; `parent_id` is empty for the root of a trace."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: dict[str, Any]


class Collector:
    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Received] = []

    def answer(self, request: Request) -> bytes:
        if (request.target, request.header(b"content-type")) != (
            b"/v1/traces",
            b"application/x-protobuf",
        ):
            return response(status=404)
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [
                Received(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _attributes(span.attributes),
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return response()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    with BackgroundServer(answering(collector.answer)) as server:
        collector.endpoint = server.url
        yield collector
