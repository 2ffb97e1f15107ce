"""The settings of the router."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from serving.config.scaled import Scaled
from serving.dispatch import DEFAULT_PRIORITY, PRIORITIES
from serving.placement.policies import PolicyName
from serving.scaling import RouterScalingConfig
from serving.section import Section, wrong
from serving.tenants import Tenant
from serving.tenants.authentication_config import AuthenticationConfig, is_loopback

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\sA-Z/?#@*]+")


class AdmissionConfig(Section):
    """The queue of requests that no replica has headroom for: its length, its longest wait, its
    order."""

    max_waiting: int = Field(ge=0, default=1000)
    """Requests that may wait for a model in each router; further ones get a 429."""
    max_wait_s: float = Field(gt=0, default=30)
    """The longest wait for capacity. A request whose expected wait is longer is rejected at once.
    While no replica is up, the start-up time of the first is added."""
    max_itl_ms: float | None = Field(gt=0, default=None)
    """The longest inter-token latency: a replica decodes no more at a time than it can at that
    pace, as measured. Without it, a replica is filled up to its KV cache and its batch."""
    default_priority: int = Field(ge=0, lt=PRIORITIES, default=DEFAULT_PRIORITY)
    """The priority of requests without `x-priority`; higher goes first."""


class ResponsesConfig(Section):
    """The stored responses of /v1/responses, which clients continue by `previous_response_id`."""

    folder: str | None = None
    """Where the routers of a node keep them, on a disk of that node; by default in the session
    folder of Ray, so that they end with the service. They contain prompts and answers."""
    redis_url: str | None = None
    """A Redis that keeps them for the routers of all nodes, in place of a folder of each node:
    `redis://host:6379`, or `rediss://` for TLS. It must not evict keys."""
    redis_password_env: str | None = None
    """The routers' environment variable with the password of Redis."""
    keep_s: float = Field(gt=0, default=24 * 3600)
    """How long a response is kept."""
    max_bytes: int = Field(ge=0, default=256 * 1024**2)
    """The size of all of them on a node, or in Redis, of which each tenant has an equal share; the
    oldest go first. 0: none is stored, and `previous_response_id` and `background` are refused."""

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis_without_password(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port == 0:
                raise ValueError("allowed is redis://host:port, or rediss:// for TLS")
            if not re.fullmatch(r"/?[0-9]*", parts.path):
                raise ValueError("allowed after the host is the number of a database, as in /1")
            if parts.password is not None or "password" in parts.query:
                raise ValueError("must hold no password: name its variable in redis_password_env")
        return url

    @model_validator(mode="after")
    def _are_in_one_place(self) -> "ResponsesConfig":
        if self.redis_url is not None and self.folder is not None:
            raise wrong("folder", "cannot be combined with redis_url; set one of the two")
        if self.redis_url is None and self.redis_password_env is not None:
            raise wrong("redis_password_env", "has no effect without redis_url")
        return self


class TlsConfig(Section):
    """TLS between clients and routers, 1.2 or later."""

    certificate_file: str
    """A file in PEM with the certificate and those between it and its authority's, where the
    routers run. A renewed one is taken within a minute."""
    key_file: str
    """A file in PEM with the certificate's key, not encrypted."""


class LedgerConfig(Section):
    """The usage ledger: the tokens and GPU time of each tenant, API key and model."""

    folder: str | None = None
    """Where the routers keep it: a folder that all of them share and that outlives them, as on a
    volume; by default in the session folder of Ray, where it ends with the service. It contains
    nothing of prompts or answers."""
    keep_days: int = Field(ge=0, default=400)
    """How many days the sums of a day are kept. 0: no usage is kept."""
    keep_entries_days: int = Field(ge=1, default=7)
    """How many days the entries of single requests are kept beside the sums."""


class BatchesConfig(Section):
    """The files of /v1/files and the batches of /v1/batches, which are answered in what other
    requests leave free."""

    folder: str | None = None
    """Where they are kept: on a disk of the node, or on a volume that all routers mount and that
    has POSIX locks and links (NFS 4, CephFS, Lustre). By default in the session folder of Ray, so
    that they end with the service. They contain prompts and answers."""
    keep_s: float = Field(ge=3600, default=30 * 24 * 3600)
    """How long a file is kept after it was made, and a batch after it was created."""
    max_bytes: int = Field(ge=0, default=4 * 1024**3)
    """The size of all files, of which each tenant has an equal share: whoever has used it can
    upload nothing and begin no batch. 0: there are no files and batches."""
    max_file_mib: float = Field(gt=0, default=200)
    """Larger files get a 413."""
    scale_up: bool = False
    """Whether the requests of batches count in autoscaling, as others do."""


class RouterConfig(Scaled[RouterScalingConfig]):
    """The Router deployment."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is all of the node. If other machines can reach it,
    `authentication` must say who may use the API."""
    port: int = Field(ge=1, le=65535, default=8000)
    """Router replicas on one node share the port."""
    tls: TlsConfig | None = None
    """TLS on that port. Prometheus reads each router at an address of its own, without TLS."""
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica."""
    max_body_mib: float = Field(gt=0, default=64)
    """Larger request bodies get a 413."""
    max_bodies_mib: float = Field(gt=0, default=1024)
    """Size of all request bodies that a router holds, from their first byte to the end of the
    answer; a body for which there is no room gets a 503."""
    connect_timeout_s: float = Field(gt=0, default=2)
    """Timeout for connecting to an engine."""
    placement: PolicyName = "least_cost"
    """The policy that chooses a replica for each request. All but the default are for comparison,
    and `session_hash` for keeping a session (`x-session-id`, or `prompt_cache_key` in the body) on
    one replica."""
    admission: AdmissionConfig = AdmissionConfig()
    responses: ResponsesConfig = ResponsesConfig()
    ledger: LedgerConfig = LedgerConfig()
    batches: BatchesConfig = BatchesConfig()
    authentication: AuthenticationConfig = AuthenticationConfig()
    tenants: tuple[Tenant, ...] = ()
    """Those that API keys and tokens belong to. If empty there is one, `default`."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins of web pages whose scripts may use the paths below /v1/, as `https://example.com`;
    `*` is any. Browsers refuse answers to all others."""
    ui: bool = False
    """Whether to serve the page at /-/ui, which shows the models and their load to anyone who can
    reach the router, and lets them try a prompt; with the keys that `authentication` requires."""
    replica_backoff_s: float = Field(ge=0, default=1)
    """A replica that failed gets no request for this long, then until a probe finds it healthy;
    doubled for each consecutive failure, up to a minute."""
    poison_keep_s: float = Field(gt=0, default=3600)
    """How long a request that ends engines is refused, unless new engines replace them all."""
    startup_s: float = Field(gt=0, default=120)
    """The expected start-up time of the first replica, while there is none."""
    drain_timeout_s: float = Field(ge=0, default=600)
    """How long a stopping router waits for its answers to end."""

    @field_validator("cors_origins")
    @classmethod
    def _browsers_send_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"no browser sends '{origin}'; allowed are a scheme and a host in lower case, "
                    "with a port or without, as https://example.com, and *"
                )
        return origins

    @model_validator(mode="after")
    def _one_body_has_room(self) -> "RouterConfig":
        if self.max_bodies_mib < self.max_body_mib:
            raise wrong(
                "max_bodies_mib",
                f"allowed is at least max_body_mib, which is {self.max_body_mib:g}: of all bodies "
                "that a router holds, one of that size must have room "
                f"(got {self.max_bodies_mib:g})",
            )
        return self

    @field_validator("tenants")
    @classmethod
    def _tenants_are_distinct(cls, tenants: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        names = [tenant.name for tenant in tenants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the tenant '{name}' is listed twice")
        return tenants

    @model_validator(mode="after")
    def _is_not_open_by_mistake(self) -> "RouterConfig":
        authentication = self.authentication
        if self.tenants and not authentication.knows_callers:
            raise wrong(
                "tenants",
                "cannot be told apart without authentication.keys_file or authentication.oidc",
            )
        is_open = not authentication.knows_callers and not authentication.allow_anonymous
        if is_open and not is_loopback(self.host):
            raise wrong(
                "host",
                f"everyone who reaches {self.host} could use the API. Set authentication.keys_file "
                "and make keys with `mistral-serve keys create`, or set authentication.oidc, or "
                "authentication.allow_anonymous: true if that is meant",
            )
        return self
