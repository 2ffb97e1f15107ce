"""The status of the service as a router reports it: the source of the page, `status` and `top`."""

import msgspec


class Quantiles(msgspec.Struct):
    """Recent quantiles in seconds; None if nothing was observed."""

    p50_s: float | None
    p99_s: float | None


class Recent(msgspec.Struct):
    """What one router saw of a model in the last minute or two, or since the previous status
    request."""

    seconds: float
    requests: int
    """Requests that have ended, with any outcome."""
    refused: int
    """Requests rejected by admission."""
    failed: int
    """Requests that the service failed, before or during their answers."""
    input_tokens: int
    output_tokens: int
    hit_rate: float | None
    """Share of the prompts' tokens that engines had cached, 0 to 1; None if none reported it."""
    expected_hit_rate: float | None
    """Share of the prompts' tokens that placement expected to be cached."""
    ttft: Quantiles
    itl: Quantiles
    queue: Quantiles


class ReplicaStatus(msgspec.Struct):
    replica: str
    address: str
    requests_in_flight: int
    """Requests of all routers on this replica."""
    tokens_in_flight: int
    """KV cache tokens that the requests of all routers need."""
    load: float | None
    """Utilization of its KV cache or its batch, whichever is fuller, 0 to 1 and above, by all
    routers; None if it has not reported their size."""
    kv_cache_tokens: int | None
    max_num_seqs: int | None
    ejected: bool = msgspec.field(name="left_out")
    """Whether it failed and gets no requests until it is healthy. The JSON keeps the old name."""


class ModelStatus(msgspec.Struct):
    aliases: list[str]
    takes_images: bool
    waiting: int
    """Requests in this router's queue."""
    startup_left_s: int | None
    """Seconds until the first replica is expected, if there is none."""
    replicas: list[ReplicaStatus]
    recent: Recent
    start_error: str | None = None
    """The exception of the last replica that failed to start, if none is up."""


class Objectives(msgspec.Struct):
    ttft_s: float
    itl_s: float


class ServiceStatus(msgspec.Struct):
    router: str
    """The id of the router that reports."""
    routers: int
    placement: str
    """The name of the placement policy."""
    needs_api_key: bool
    versions: dict[str, str]
    objectives: Objectives
    models: dict[str, ModelStatus]
