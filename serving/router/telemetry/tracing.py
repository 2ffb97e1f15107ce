"""Exports a span per request to an OpenTelemetry collector; vLLM's own spans are its children.

This module is imported only if a collector is configured.
"""

import asyncio
import threading
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from serving.router.telemetry.request_record import RequestRecord

_CLOSE_S = 3
"""Flush timeout: less than a stopping router has left once its answers have ended."""

_CONTEXT_HEADERS = frozenset({b"traceparent", b"tracestate"})
_context = TraceContextTextMapPropagator()

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
}
"""Operation names by OpenTelemetry's semantic conventions for generative AI, which also define the
attributes."""


class Tracing:
    """Sends spans in batches from a thread of its own. While the collector is unreachable a bounded
    number is kept; the rest is lost."""

    def __init__(self, traces_url: str) -> None:
        """`traces_url` accepts OTLP over HTTP. Sampling, headers and batch sizes are set by
        OpenTelemetry's own environment variables."""
        resource = Resource.create({"service.name": "mistral-serve-router"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(traces_url)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("mistral-serve")

    def begin(self, scope: Scope, record: RequestRecord) -> Span:
        """Starts the span of a request, in the client's trace if it has one, and makes it the
        parent of the engine's spans through the scope's headers."""
        headers = scope["headers"]
        of_client = {k.decode(): v.decode("latin-1") for k, v in headers if k in _CONTEXT_HEADERS}
        span = self._tracer.start_span(
            record.path, context=_context.extract(of_client), kind=SpanKind.SERVER
        )
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        for_engine: dict[str, str] = {}
        _context.inject(for_engine, set_span_in_context(span))
        scope["headers"] = [header for header in headers if header[0] not in _CONTEXT_HEADERS]
        scope["headers"] += ((k.encode(), v.encode()) for k, v in for_engine.items())
        return span

    def end(self, span: Span, record: RequestRecord) -> None:
        """Ends the span of a request with its complete record."""
        if span.is_recording():
            if record.model is not None and record.path in _OPERATIONS:
                span.update_name(f"{_OPERATIONS[record.path]} {record.model}")
            for name, value in attributes(record).items():
                if value is not None:
                    span.set_attribute(name, value)
            if record.outcome == "broken" or (record.status or 0) >= 500:
                span.set_status(StatusCode.ERROR)
        span.end()

    async def close(self) -> None:
        """Flushes remaining spans, if the collector accepts them within a few seconds."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _CLOSE_S)
        if closing.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


def attributes(record: RequestRecord) -> dict[str, Any]:
    """Returns the attributes of a request's span; those that do not apply are None."""
    answered = record.outcome == "answered"
    return {
        "http.request.method": "POST",
        "http.response.status_code": record.status,
        "url.path": record.path,
        "error.type": None if answered else record.error or record.outcome,
        "gen_ai.operation.name": _OPERATIONS.get(record.path),
        "gen_ai.provider.name": "mistral-serve",
        "gen_ai.request.model": record.model,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.time_to_first_chunk": (
            None if record.ttft_ms is None else record.ttft_ms / 1000
        ),
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "mistral_serve.request_id": record.request_id,
        "mistral_serve.outcome": record.outcome,
        "mistral_serve.tenant": record.tenant,
        "mistral_serve.replica": record.replica,
        "mistral_serve.queue_ms": record.queue_ms,
        "mistral_serve.expected_cached_tokens": record.expected_cached_tokens,
        "mistral_serve.retries": record.retries,
        "mistral_serve.continued": record.continued,
        "mistral_serve.handed_over": record.handed_over,
    }
