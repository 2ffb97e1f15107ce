"""How the service is, as a router tells it: what the page, `status` and `top` show."""

import msgspec


class Quantiles(msgspec.Struct):
    """None: there was nothing."""

    p50_s: float | None
    p99_s: float | None


class Recent(msgspec.Struct):
    """What one router saw of a model in the last minute or two, or since somebody asked last."""

    seconds: float
    requests: int
    """That are over, whatever their outcome."""
    refused: int
    """Not let in."""
    failed: int
    """By us, before or after their answers had begun."""
    input_tokens: int
    output_tokens: int
    hit_rate: float | None
    """The part of the prompts' tokens that engines had cached, 0 to 1; None if none told."""
    expected_hit_rate: float | None
    """The same, as placed."""
    ttft: Quantiles
    itl: Quantiles
    queue: Quantiles


class ReplicaStatus(msgspec.Struct):
    replica: str
    address: str
    requests_in_flight: int
    """Of all routers, as is the load."""
    tokens_in_flight: int
    """That they need of the KV cache."""
    load: float | None
    """Of its KV cache or its batch, whichever is fuller, 0 to 1 and above; None if it has not told
    how large they are."""
    kv_cache_tokens: int | None
    max_num_seqs: int | None
    ejected: bool = msgspec.field(name="left_out")
    """It failed, and gets no request until it is healthy. The JSON keeps the old name."""


class ModelStatus(msgspec.Struct):
    aliases: list[str]
    takes_images: bool
    waiting: int
    """Requests in this router's line."""
    startup_left_s: int | None
    """Until the first replica is expected, if there is none."""
    replicas: list[ReplicaStatus]
    recent: Recent


class Objectives(msgspec.Struct):
    ttft_s: float
    itl_s: float


class ServiceStatus(msgspec.Struct):
    router: str
    """That tells."""
    routers: int
    placement: str
    """The policy."""
    needs_api_key: bool
    versions: dict[str, str]
    objectives: Objectives
    models: dict[str, ModelStatus]
