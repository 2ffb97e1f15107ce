"""The router's HTTP surface: what is relayed to engines, and what the router answers itself."""

import logging
from collections.abc import Callable
from functools import cache

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from serving.asgi import ClientGoneError, Headers
from serving.config import RouterConfig
from serving.router import models, poison, ui
from serving.router.batches import endpoints as batch_endpoints
from serving.router.batches.runner import BatchRunner
from serving.router.http import errors, protocol_errors
from serving.router.http.asgi import client_request_id, id_headers
from serving.router.http.authentication import Authentication
from serving.router.http.errors import ANTHROPIC_VERSION, ApiError, is_anthropics
from serving.router.http.http10 import UnchunkedTransport
from serving.router.http.openapi import RELAYED, describe
from serving.router.http.server import response_of
from serving.router.ledger.endpoint import add_usage_endpoint
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.relay import Relay
from serving.router.replicas.directory import Directory
from serving.router.responses import endpoints as response_endpoints
from serving.router.responses.responses import Responses
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.scrape_targets import Target
from serving.versions import version, vllm_version

log = logging.getLogger(__name__)

_REQUEST_ID = "request_id"
"""The key of a request's id in its ASGI scope."""
_VERSION = ANTHROPIC_VERSION.encode()


class RouterApp:
    """The ASGI application of a router. Relayed paths bypass FastAPI and go straight to the
    relay."""

    def __init__(
        self,
        directory: Directory,
        relay: Relay,
        authentication: Authentication,
        metrics: Metrics,
        targets: Callable[[], list[Target]],
        observer: Observer,
        is_draining: Callable[[], bool],
        config: RouterConfig,
        responses: Responses | None = None,
        ledger: Ledger | None = None,
        batches: BatchRunner | None = None,
    ) -> None:
        self._relay = relay
        self._api = own_endpoints(
            directory, authentication, metrics, targets, observer, is_draining
        )
        models.add_endpoints(self._api, directory, authentication)
        poison.add_endpoints(self._api, directory, authentication)
        if responses is not None:
            response_endpoints.add_endpoints(self._api, responses, authentication)
        if ledger is not None:
            add_usage_endpoint(self._api, ledger, authentication)
        if batches is not None:
            batch_endpoints.add_endpoints(self._api, batches, authentication)
        if config.ui:
            self._api.get(ui.PATH, response_class=HTMLResponse)(ui.page)
        self._with_cors = CORSMiddleware(
            self._api,
            allow_origins=config.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.endswith("/") and path != "/":
            path = path.rstrip("/")
            scope = {**scope, "path": path, "raw_path": scope["raw_path"].rstrip(b"/")}
        if scope["http_version"] == "1.0":
            response = response_of(send)
            response.transport = UnchunkedTransport(response.transport)
        if scope["method"] == "POST" and path in RELAYED:
            for name, value in scope["headers"]:
                if name == b"origin":
                    response = response_of(send)
                    response.default_headers = response.default_headers + self._cors_headers(value)
            await self._relay(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request that is not relayed."""
        api = self._with_cors if scope["path"].startswith("/v1/") else self._api
        if scope["method"] == "HEAD":  # uvicorn leaves the body out
            scope = {**scope, "method": "GET"}
        request_id = client_request_id(scope["headers"])
        scope = {**scope, _REQUEST_ID: request_id.decode()}
        sends_version = any(name == _VERSION for name, _ in scope["headers"])
        headers = id_headers(request_id, sends_version or is_anthropics(scope["path"]))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += headers
            await send(message)

        try:
            await api(scope, receive, send_with_id)
        except ClientGoneError:
            return
        except Exception:  # which the client has been told of, or sees by the end of its connection
            log.exception("request %s failed in the router", scope[_REQUEST_ID])

    def _cors_headers(self, origin: bytes) -> Headers:
        """Returns the headers by which a page of this origin may read a relayed response."""
        if not self._with_cors.is_allowed_origin(origin.decode("latin-1")):
            return []
        return [
            (b"access-control-allow-origin", b"*" if self._with_cors.allow_all_origins else origin),
            (b"access-control-expose-headers", b"*"),
            (b"vary", b"origin"),
        ]


def own_endpoints(
    directory: Directory,
    authentication: Authentication,
    metrics: Metrics,
    targets: Callable[[], list[Target]],
    observer: Observer,
    is_draining: Callable[[], bool],
) -> FastAPI:
    """Builds the endpoints that the router answers itself."""
    others = {name: version(name) for name in ("mistral-serve", "ray", "mistral-common")}
    api = FastAPI(
        title="mistral-serve", version=others["mistral-serve"], docs_url=None, redoc_url=None
    )
    generated = api.openapi
    api.openapi = cache(lambda: describe(generated()))  # type: ignore[method-assign]
    versions = {"vllm": vllm_version(), **others}

    of_operators = [Depends(authentication.check_admin)]

    @api.get("/health", response_class=Response)
    async def health() -> Response:
        """Answers 200 if a request can be served: at least one model has a replica or scales from
        zero."""
        models = directory.models.values()
        if not any(served.replicas or served.model.from_zero for served in models):
            startup_s = min(served.startup_left_s for served in models)
            raise errors.no_replica(", ".join(directory.models), startup_s)
        return Response()

    @api.get(
        "/-/healthz",
        response_class=PlainTextResponse,
        responses={503: {"description": "It drains.", "content": {"text/plain": {}}}},
    )
    async def healthz() -> Response:
        """Answers 200 while this router accepts connections, whatever the state of the engines."""
        if is_draining():
            return PlainTextResponse("draining", 503)
        return PlainTextResponse("success")

    @api.get("/version")
    async def get_version() -> dict[str, str]:
        return {"version": versions["vllm"], **others}  # the field that vLLM has here

    @api.get("/metrics", response_class=PlainTextResponse)
    async def get_metrics() -> Response:
        """Exposes this router's own metrics in Prometheus' format."""
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    @api.get("/-/targets", dependencies=of_operators)
    async def get_targets() -> list[Target]:
        """Lists all routers and engines for Prometheus' HTTP service discovery."""
        return targets()

    @api.get("/-/status", dependencies=of_operators)
    async def get_status() -> Response:
        """Returns a `ServiceStatus`: the state of the models and their replicas."""
        body = msgspec.json.encode(await observer.explained_status(versions))
        return Response(body, headers={"content-type": "application/json"})

    @api.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        headers = {name.decode(): value.decode() for name, value in error.headers}
        of_anthropics_client = ANTHROPIC_VERSION in request.headers
        request_id = request.scope[_REQUEST_ID]
        if of_anthropics_client:
            body = error.anthropic_body(request_id)
        else:
            body = error.body(request.url.path, request_id)
        return Response(body, error.status, headers)

    @api.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return await api_error(request, errors.internal_error())

    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        method, path = request.method, request.url.path
        if path in RELAYED:
            return await api_error(
                request, protocol_errors.method_not_allowed(method, path, "POST")
            )
        if error.status_code == 405:
            # Starlette's own header has the methods of one of the path's routes alone.
            matching = [
                route.methods or ()
                for route in api.routes
                if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            ]
            allow = ", ".join(sorted({one for methods in matching for one in methods}))
            return await api_error(request, protocol_errors.method_not_allowed(method, path, allow))
        return await api_error(request, protocol_errors.not_found(method, path))

    return api
