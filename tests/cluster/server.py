"""The HTTP of the API server: paths to requests, errors to `Status`, watches to streams."""

import json
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from tests.cluster import discovery, protobuf, streams, watches
from tests.cluster.api import Api, Options
from tests.cluster.errors import ApiError, Object, bad_request, forbidden, no_such_path
from tests.cluster.eviction import evict
from tests.cluster.schemas import Kind

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_USER = "tester"


# Of a method, a path and a body: a status code and a body.
Proxied = Callable[[str, str, bytes], tuple[int, str]]


@dataclass(frozen=True)
class Target:
    """What a path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    # What comes after the subresource.
    below: str = ""


@dataclass
class Faults:
    """What a test has the server refuse or lose."""

    # Verb, plural ("*" for all) and namespace ("*" for all) that the client may not use.
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    # Watches stop when this changes.
    watches_lost: int = 0
    # How many of the next requests are answered 503.
    unavailable: int = 0

    def allows(self, verb: str, plural: str, namespace: str) -> bool:
        return not any(
            v in (verb, "*") and p in (plural, "*") and n in (namespace, "*")
            for v, p, n in self.denied
        )


class Server:
    """Serves an Api over HTTP on the loopback between `start` and `stop`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.faults = Faults()
        # The log of each pod's container, by namespace, pod and container.
        self.logs: dict[tuple[str, str, str], str] = {}
        # What a command in a pod writes: of the pod's name, the container's and the command.
        self.run: streams.Run = lambda pod, container, command: ""
        # The port of this machine behind each port of a pod.
        self.ports: dict[int, int] = {}
        # What answers behind the API server's proxy, by namespace, plural and "name:port".
        self.proxied: dict[tuple[str, str, str], Proxied] = {}
        # What went wrong in this server itself.
        self.failures: list[Exception] = []
        self.closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """On a free port, from a thread of its own."""
        self._http = _Http(self)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.closing = True
        with self.api.store.changed:
            self.api.store.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, owner: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this a small answer waits for the client's acknowledgement of its headers.
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        try:
            if self.server.owner.faults.unavailable > 0:
                self.server.owner.faults.unavailable -= 1
                raise ApiError(503, "ServiceUnavailable", "the server is currently unable to help")
            self._route(url.path, query, body)
        except ApiError as error:
            self._send(error.code, error.as_status())
        except OSError:
            # The client went away.
            self.close_connection = True
        except Exception as error:
            self.server.owner.failures.append(error)
            self._send(500, ApiError(500, "InternalError", repr(error)).as_status())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, code: int, body: Any, warnings: list[str] | None = None) -> None:
        match body:
            case str():
                data, content_type = body.encode(), "text/plain"
            case bytes():
                data, content_type = body, discovery.OPENAPI_V2_TYPE
            case _:
                data, content_type = json.dumps(body).encode(), "application/json"
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for warning in warnings or ():
            self.send_header("Warning", f'299 - "{warning}"'.replace("\n", " "))
        self.end_headers()
        self.wfile.write(data)

    def _content_type(self) -> str:
        return str(self.headers.get("content-type", "")).partition(";")[0]

    def _parsed(self, body: bytes) -> Any:
        if not body:
            return None
        match self._content_type():
            case "application/apply-patch+yaml" | "application/yaml":
                return yaml.load(body, yaml.CSafeLoader)
            case protobuf.CONTENT_TYPE:
                return protobuf.decoded(body)
        try:
            return json.loads(body)
        except ValueError as error:
            raise bad_request(f"the body of the request is no JSON: {error}") from error

    def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
        api = self.server.owner.api
        document = discovery.document(api, path) if self.command == "GET" else None
        if document is not None:
            self._send(200, document)
            return
        target = _target(api, path)
        verb = _verb(self.command, target, query)
        if target.kind.plural == "selfsubjectaccessreviews":
            self._send(201, self._review(self._parsed(body)))
            return
        self._authorize(verb, target)
        if self.command == "GET":
            # Whoever deletes much at once finds all of it still there; whoever looks, nothing.
            api.empty_namespaces()
        if target.subresource == "proxy":
            self._proxy(target, body)
        elif verb == "watch":
            self._watch(target, query)
        elif target.subresource in ("exec", "portforward"):
            self._stream(target, urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query))
        elif self.command == "GET":
            self._send(200, self._read(target, query))
        else:
            self._write(verb, target, query, body)

    def _authorize(self, verb: str, target: Target) -> None:
        kind = target.kind
        plural = f"{kind.plural}/{target.subresource}" if target.subresource else kind.plural
        if self.server.owner.faults.allows(verb, plural, target.namespace):
            return
        where = (
            f' in the namespace "{target.namespace}"'
            if kind.namespaced
            else " at the cluster scope"
        )
        why = f'User "{_USER}" cannot {verb} resource "{plural}" in API group "{kind.group}"{where}'
        raise forbidden(kind.group, kind.plural, target.name, why)

    def _review(self, review: Object) -> Object:
        asked = review["spec"].get("resourceAttributes", {})
        plural = asked.get("resource", "*")
        if asked.get("subresource"):
            plural += f"/{asked['subresource']}"
        allowed = self.server.owner.faults.allows(
            asked.get("verb", "*"), plural, asked.get("namespace", "")
        )
        return review | {"status": {"allowed": allowed}}

    def _read(self, target: Target, query: dict[str, str]) -> Any:
        api, kind = self.server.owner.api, target.kind
        if target.subresource == "log":
            return self._log(target, query)
        if target.name:
            return api.get(kind, target.namespace, target.name)
        with api.store.changed:
            items = api.find(
                kind,
                target.namespace,
                query.get("labelSelector", ""),
                query.get("fieldSelector", ""),
            )
            version = str(api.store.version)
        return {
            "apiVersion": kind.api_version,
            "kind": f"{kind.name}List",
            "metadata": {"resourceVersion": version},
            "items": items,
        }

    def _stream(self, target: Target, query: dict[str, list[str]]) -> None:
        owner = self.server.owner
        pod = owner.api.get(target.kind, target.namespace, target.name)
        containers = [each["name"] for each in pod["spec"]["containers"]]
        if target.subresource == "portforward" and "ports" not in query:
            raise bad_request(f"pod {target.name}: kubectl's own protocol is not served")
        headers = {name: value for name, value in self.headers.items()}
        channel = streams.Channel(self.connection, self.requestline.encode(), headers)
        self.close_connection = True
        if target.subresource == "exec":
            (container,) = query.get("container", containers[:1])
            streams.execute(channel, owner.run(target.name, container, query["command"]))
        else:
            (port,) = map(int, query["ports"])
            streams.forward(channel, port, owner.ports[port])

    def _proxy(self, target: Target, body: bytes) -> None:
        behind = (target.namespace, target.kind.plural, target.name)
        answer = self.server.owner.proxied.get(behind)
        if answer is None:
            why = f'no endpoints available for service "{target.name}"'
            raise ApiError(503, "ServiceUnavailable", why)
        self._send(*answer(self.command, f"/{target.below}", body))

    def _log(self, target: Target, query: dict[str, str]) -> str:
        pod = self.server.owner.api.get(target.kind, target.namespace, target.name)
        containers = [each["name"] for each in pod["spec"]["containers"]]
        inits = [each["name"] for each in pod["spec"].get("initContainers", ())]
        container = query.get("container") or containers[0]
        if container not in containers + inits:
            raise bad_request(f"container {container} is not valid for pod {target.name}")
        statuses = pod["status"].get("containerStatuses", ())
        waits = (s["state"].get("waiting") for s in statuses if not s["restartCount"])
        waiting = next(filter(None, waits), None)  # one that has ended before shows its last log
        if waiting is not None:
            raise bad_request(
                f'container "{container}" in pod "{target.name}" is waiting to start: '
                f"{waiting['reason']}"
            )
        text = self.server.owner.logs.get((target.namespace, target.name, container), "")
        tail = query.get("tailLines")
        return "".join(text.splitlines(keepends=True)[-int(tail) :]) if tail else text

    def _write(self, verb: str, target: Target, query: dict[str, str], body: bytes) -> None:
        api, kind = self.server.owner.api, target.kind
        options = Options(
            dry_run=query.get("dryRun") == "All",
            field_validation=query.get("fieldValidation") or "Warn",
            manager=query.get("fieldManager") or self.headers.get("user-agent", "").split("/")[0],
            force=query.get("force") == "true",
        )
        content_type = self._content_type()
        data: Any = None if target.subresource == "eviction" else self._parsed(body)
        status = target.subresource == "status"
        place = (kind, target.namespace, target.name)
        match verb:
            case "create" if target.subresource == "eviction":
                self._send(201, evict(api, target.namespace, target.name))
            case "create":
                new, warnings = api.create(kind, target.namespace, data, options)
                self._send(201, new, warnings)
            case "update":
                self._send(200, *api.update(*place, data, options, status=status))
            case "patch":
                self._send(200, *api.patch(*place, content_type, data, options, status=status))
            case "delete":
                orphan = (data or {}).get("propagationPolicy") == "Orphan"
                dry_run = options.dry_run or (data or {}).get("dryRun") == ["All"]
                grace_s = (data or {}).get("gracePeriodSeconds")
                gone_object = api.delete(*place, orphan=orphan, dry_run=dry_run, grace_s=grace_s)
                self._send(200, gone_object)

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        owner = self.server.owner
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = f"metadata.name={target.name}"
        lost = owner.faults.watches_lost
        ends_s = time.monotonic() + float(query.get("timeoutSeconds") or "inf")

        def ended() -> bool:
            is_lost = lost != owner.faults.watches_lost
            return owner.closing or is_lost or time.monotonic() >= ends_s

        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for kind, found in watches.events(
            owner.api,
            target.kind,
            target.namespace,
            query.get("labelSelector", ""),
            fields,
            query.get("resourceVersion", ""),
            ended,
        ):
            self._event(kind, found)
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, kind: str, obj: Object) -> None:
        line = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))


def _target(api: Api, path: str) -> Target:
    match [urllib.parse.unquote(part) for part in path.strip("/").split("/")]:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise no_such_path()
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "", "")[:3]
    kind = next(
        (
            each
            for each in api.served
            if (each.resource, each.version) == ((group, plural), version)
        ),
        None,
    )
    if kind is None:
        raise no_such_path()
    return Target(kind, namespace, name, subresource, "/".join(rest[3:]))


def _verb(command: str, target: Target, query: dict[str, str]) -> str:
    if command == "GET":
        if target.subresource in ("exec", "portforward"):
            return "create"
        if query.get("watch") in ("true", "1", "True"):
            return "watch"
        return "get" if target.name else "list"
    return _VERBS[command]
