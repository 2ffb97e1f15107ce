import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serving import catalogue
from serving.config import AppConfig, ConfigError, ModelConfig, RouterConfig, load

TINY = "tiny-mistral-small-3.2"
SMALL = "mistral-small-3.2-24b-instruct-2506"
SERVE = Path(__file__).parent.parent / "deploy" / "serve"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serve.yaml"


def write(path: Path, args: Any) -> None:
    path.write_text(yaml.safe_dump({"applications": [{"name": "mistral", "args": args}]}))


def refusal(path: Path) -> str:
    """Returns the message with which `load` rejects the file, which it must name."""
    with pytest.raises(ConfigError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("file", sorted(SERVE.glob("*.yaml")), ids=lambda file: file.name)
def test_each_config_of_deploy_is_valid(file: Path) -> None:
    assert load(file).models


def test_the_page_is_off_unless_it_is_asked_for() -> None:
    assert load(SERVE / "local.yaml").router.ui
    assert not load(SERVE / "production.yaml").router.ui


def test_what_is_not_set_has_a_default(path: Path) -> None:
    write(path, {"models": [{"model": TINY}]})
    config = load(path)
    assert config == AppConfig(models=(ModelConfig(model=TINY),))
    assert config.router == RouterConfig()


def test_settings_are_read(path: Path) -> None:
    write(path, {"router": {"port": 1, "drain_timeout_s": 7.5}, "models": [{"model": TINY}]})
    router = load(path).router
    assert (router.port, router.drain_timeout_s) == (1, 7.5)


@pytest.mark.parametrize(
    ("field", "value"), [("keep_s", 0), ("max_bytes", -1), ("max_bytes", 1.5), ("size", 1)]
)
def test_wrong_settings_of_stored_responses_are_named(path: Path, field: str, value: Any) -> None:
    write(path, {"router": {"responses": {field: value}}, "models": [{"model": TINY}]})
    assert f"router.responses.{field}: " in refusal(path)


@pytest.mark.parametrize(
    "url",
    [
        *("redis", "http://redis:6379", "redis://", "redis://redis:port", "unix:///redis.sock"),
        *("redis://:pa55@redis", "rediss://a:pa55@redis:6379/1", "redis://redis?password=pa55"),
    ],
)
def test_the_address_of_redis_is_checked_and_holds_no_password(path: Path, url: str) -> None:
    write(path, {"router": {"responses": {"redis_url": url}}, "models": [{"model": TINY}]})
    message = refusal(path)
    assert "router.responses.redis_url: " in message and "pa55" not in message


@pytest.mark.parametrize(
    ("field", "more"),
    [("folder", {"redis_url": "redis://redis"}), ("redis_password_env", {})],
)
def test_responses_are_stored_in_one_place(path: Path, field: str, more: dict[str, str]) -> None:
    write(path, {"router": {"responses": {field: "x", **more}}, "models": [{"model": TINY}]})
    assert f"router.responses.{field}: " in refusal(path)


def test_spans_go_to_the_collectors_path_for_traces_if_there_is_one(path: Path) -> None:
    write(path, {"tracing": {"otlp_endpoint": "http://a:4318/"}, "models": [{"model": TINY}]})
    assert load(path).tracing.traces_url == "http://a:4318/v1/traces"
    write(path, {"models": [{"model": TINY}]})
    assert load(path).tracing.traces_url is None


@pytest.mark.parametrize("endpoint", ["a:4317", "grpc://a:4317", "http://a:4318/v1/traces", ""])
def test_a_collector_is_named_by_its_base_url(path: Path, endpoint: str) -> None:
    write(path, {"tracing": {"otlp_endpoint": endpoint}, "models": [{"model": TINY}]})
    assert "tracing.otlp_endpoint: allowed is the base URL" in refusal(path)


def test_a_model_is_its_catalogue_entry_with_its_own_settings_over_it() -> None:
    ours = ModelConfig(
        model=SMALL,
        aliases=("extra",),
        tensor_parallel_size=4,
        context_tokens=1000,
        gpu="L40S",
        revision="c0ffee",
        model_impl="transformers",
        vllm_args={"seed": 1, "tool-call-parser": "other"},
    )
    entry, ours_entry = catalogue.load(SMALL), ours.entry
    assert ours_entry.aliases == (*entry.aliases, "extra")
    assert ours_entry.tensor_parallel_size == 4
    assert ours_entry.pipeline_parallel_size == entry.pipeline_parallel_size
    assert (ours_entry.context_tokens, ours_entry.gpu) == (1000, "L40S")
    assert (entry.model_impl, ours_entry.model_impl) == ("auto", "transformers")
    assert (ours_entry.weights, ours_entry.revision) == (entry.weights, "c0ffee")
    assert ours_entry.vllm_args == entry.vllm_args | ours.vllm_args
    assert ModelConfig(model=SMALL).entry == entry


def test_a_variant_is_the_entrys_with_the_settings_over_it() -> None:
    ours = ModelConfig(model=SMALL, variant="int4", context_tokens=16384)
    int4 = catalogue.load(SMALL, "int4")
    assert ours.entry == int4.model_copy(update={"context_tokens": 16384})


def test_the_context_length_has_vllms_name_too() -> None:
    settings = {"model": SMALL, "variant": "int4"}
    assert ModelConfig.model_validate(settings | {"max_model_len": 16384}) == ModelConfig(
        model=SMALL, variant="int4", context_tokens=16384
    )
    with pytest.raises(ValidationError, match="max_model_len"):
        ModelConfig.model_validate(settings | {"max_model_len": 1, "context_tokens": 1})


def test_weights_from_elsewhere_do_not_keep_the_entrys_commit() -> None:
    entry = ModelConfig(model=SMALL, weights="/models/small").entry
    assert (entry.weights, entry.revision) == ("/models/small", None)
    pinned = ModelConfig(model=SMALL, weights="me/small", revision="c0ffee").entry
    assert (pinned.weights, pinned.revision) == ("me/small", "c0ffee")


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"variant": "int3"}, "variant", "unknown variant 'int3' of .*: bf16-tp2, bf16-tp1, fp8, "),
        ({"gpu": "H1000"}, "gpu", "unknown GPU type 'H1000'; known are A10G, "),
        ({"gpu": 0.0}, "gpu", "above 0"),
        ({"gpu": float("inf")}, "gpu", "is a number above 0 .got inf."),
        ({"cpus": float("inf")}, "cpus", "finite number .got inf."),
        ({"weights": ""}, "weights", "needs a repository id or a folder"),
        ({"weights": "embedded:9"}, "weights", "there are embedded:3.2, embedded:2501, "),
        ({"tensor_parallel_size": 3}, "tensor_parallel_size", "3 does not divide .* 32 attention"),
        ({"host": "0.0.0.0"}, "host", "allowed is an address of the node"),
        (
            {"allowed_image_domains": ["*"]},
            "allowed_image_domains",
            "'\\*' is no host; allowed are",
        ),
        ({"vllm_args": {"max-model-len": 1}}, "vllm_args", "here but as max_model_len"),
        ({"vllm_args": {"max_model_len": 1}}, "vllm_args", "here but as max_model_len"),
        ({"reasoning": "yes"}, "reasoning", "'content' or 'separate' .got 'yes'."),
        ({"pipeline_parallel_size": 41}, "", "41 pipeline stages for 40 layers"),
    ],
)
def test_what_cannot_be_served_is_refused_by_its_field(
    path: Path, settings: dict[str, Any], field: str, says: str
) -> None:
    write(path, {"models": [{"model": SMALL} | settings]})
    place = f"applications[0].args.models.0.{field}".rstrip(".")
    assert re.match(f"{re.escape(place)}: .*{says}", refusal(path))


@pytest.mark.parametrize(
    "domain",
    [
        *("https://cdn.example.com/", "cdn.example.com/a", "cdn.example.com:443", "", "*"),
        *("*.", "*cdn.example.com", "cdn.*.com", "cdn.example.com.", "b\u00fccher.example"),
    ],
)
def test_a_domain_that_no_host_can_match_is_refused(path: Path, domain: str) -> None:
    write(path, {"models": [{"model": TINY, "allowed_image_domains": ["a.test", domain]}]})
    assert refusal(path).startswith(
        f"applications[0].args.models.0.allowed_image_domains: '{domain}' is no host; allowed are"
    )


@pytest.mark.parametrize("domain", ["cdn.example.com", "*.Example.com", "my_bucket.a-b.test", "a"])
def test_a_domain_is_a_host_or_its_subdomains(domain: str) -> None:
    entry = ModelConfig(model=TINY, allowed_image_domains=(domain,)).entry
    assert entry.allowed_image_domains == (domain,)


def test_memory_and_images_can_be_set_and_the_sum_follows(path: Path) -> None:
    model = {"model": SMALL, "variant": "fp8", "gpu": "L40S", "context_tokens": 65536}
    set_to = {"gpu_memory_utilization": 0.8, "kv_cache_dtype": "fp8", "image_limit": 2}
    entry = ModelConfig.model_validate(model | set_to).entry
    assert (entry.gpu_memory_utilization, entry.kv_cache_dtype) == (0.8, "fp8")
    assert entry.image_limit == 2
    write(path, {"models": [model | {"gpu_memory_utilization": 0.7}]})
    assert "44.5 GiB usable x 0.70" in refusal(path)


def test_a_text_model_takes_no_image_limit(path: Path) -> None:
    write(path, {"models": [{"model": "magistral-small-2506", "image_limit": 1}]})
    assert "models.0.image_limit: the network has no vision encoder" in refusal(path)


@pytest.mark.parametrize(
    "settings",
    [
        *({"weights": "a/b"}, {"tensor_parallel_size": 2}, {"replicas": 2}, {"loop_guard": False}),
        {"autoscaling": {"max_replicas": 2}},
        *({"vllm_args": {"seed": 1}}, {"allowed_image_domains": ["a.test"]}, {"gpu": "L40S"}),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_model_served_elsewhere_takes_no_setting_of_engines(
    path: Path, settings: dict[str, Any]
) -> None:
    (path.parent / "remote.yaml").write_text(
        "id: a/b\nkind: openai\nbase_url: http://ollama:11434/v1\ntokenizer: v7\n"
        "context_tokens: 1000\nsampling: {temperature: 0}\n"
    )
    ours = {"model": "remote.yaml", "aliases": ["c"], "context_tokens": 500, "image_limit": 1}
    write(path, {"models": [ours | {"reasoning": "separate"}]})
    assert load(path).models[0].entry.image_limit == 1
    write(path, {"models": [ours | settings]})
    (field,) = settings
    assert refusal(path) == (
        f"applications[0].args.models.0.{field}: has no effect on a/b: a model of kind openai "
        "runs on the server at its base_url"
    )


def test_a_model_served_elsewhere_may_be_at_another_address(path: Path) -> None:
    gguf = {"model": "magistral-small-2506_gguf", "base_url": "http://ollama:11434/v1"}
    write(path, {"models": [gguf | {"variant": "ollama-q8_0"}]})
    entry = load(path).models[0].entry
    assert (entry.base_url, entry.upstream_model) == (
        "http://ollama:11434/v1",
        "magistral:24b-small-2506-q8_0",
    )
    write(path, {"models": [{"model": SMALL, "base_url": "http://ollama:11434/v1"}]})
    assert refusal(path).endswith("base_url: only a model of kind openai has one")


def test_what_does_not_fit_its_gpus_is_refused_with_the_sum(path: Path) -> None:
    write(path, {"models": [{"model": SMALL, "gpu": "RTX-4090"}]})
    first, *lines, advice = refusal(path).splitlines()
    assert first == (
        "applications[0].args.models.0.context_tokens: "
        "131072 tokens do not fit the memory of 2 x RTX-4090:"
    )
    assert "44.7 GiB in bf16 on 2 GPUs" in "".join(lines)
    assert "does not hold a context of 131,072" in lines[-1]
    assert "context_tokens" in advice and "L40S" in advice


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"gpu": "A100-40GB"}, True),
        ({"gpu": "A100-40GB", "variant": "bf16-tp1"}, False),
        ({"gpu": "RTX-4090", "variant": "int4"}, True),
        ({"gpu": "RTX-4090", "variant": "int4", "context_tokens": 65536}, False),
        ({"gpu": "RTX-4090", "tensor_parallel_size": 4}, True),
        ({"gpu": "L40S", "variant": "fp8"}, False),
        ({"gpu": "L40S", "variant": "fp8", "context_tokens": 65536}, True),
        ({"gpu": 24, "variant": "fp8", "context_tokens": 1024}, False),
        ({"gpu": 32, "variant": "fp8", "context_tokens": 1024}, True),
    ],
    ids=str,
)
def test_variant_context_and_gpu_are_taken_together(
    path: Path, settings: dict[str, Any], fits: bool
) -> None:
    write(path, {"models": [{"model": SMALL} | settings]})
    if fits:
        assert load(path).models
    else:
        assert "context_tokens: " in refusal(path)


def own_model(folder: Path, text: str = "") -> Path:
    file = folder / "mine.yaml"
    file.write_text(
        "id: me/mine\nweights: /models/mine\ntokenizer: v7\ncontext_tokens: 1000\n"
        "sampling: {temperature: 0}\n" + text
    )
    return file


def test_a_model_of_ones_own_is_a_file_beside_the_config(path: Path) -> None:
    own_model(path.parent)
    write(path, {"models": [{"model": "mine.yaml", "aliases": ["x"]}]})
    (model,) = load(path).models
    assert model.own_file
    assert (model.entry.id, model.entry.aliases) == ("me/mine", ("x",))


def test_without_a_config_file_its_path_is_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = AppConfig.model_validate({"models": [{"model": "mine.yaml"}]})
    assert config.models[0].entry.id == "me/mine"


def test_its_mistakes_are_reported_with_both_files(path: Path) -> None:
    own = own_model(path.parent, "image_limits: 3\n")
    write(path, {"models": [{"model": "mine.yaml"}]})
    assert refusal(path).startswith(
        f"applications[0].args.models.0.model: {own}: image_limits: unknown field; allowed are: id,"
    )


def test_a_missing_file_is_an_error(path: Path) -> None:
    write(path, {"models": [{"model": "none.yaml"}]})
    missing = path.parent / "none.yaml"
    assert refusal(path).endswith(f"models.0.model: {missing}: No such file or directory")


@pytest.mark.parametrize(
    ("args", "where", "allowed"),
    [
        ({"router": {"prot": 1}}, "router.prot", list(RouterConfig.model_fields)),
        ({"models": [{"modle": TINY}]}, "models.0.modle", list(ModelConfig.model_fields)),
        ({"routers": {}}, "routers", ["router", "tracing", "models"]),
    ],
)
def test_an_unknown_field_is_refused_with_the_known_ones(
    path: Path, args: dict[str, Any], where: str, allowed: list[str]
) -> None:
    write(path, {"models": [{"model": TINY}]} | args)
    assert f"args.{where}: unknown field; allowed are: {', '.join(allowed)}\n" in (
        refusal(path) + "\n"
    )


@pytest.mark.parametrize(
    ("router", "says"),
    [
        ({"port": "http"}, r"router\.port: .*valid integer.* \(got 'http'\)"),
        ({"port": 0}, r"router\.port: .*greater than or equal to 1 \(got 0\)"),
        ({"port": 65536}, r"router\.port: .*less than or equal to 65535 \(got 65536\)"),
        ({"replicas": 1.5}, r"router\.replicas: .*valid integer.* \(got 1\.5\)"),
        ({"max_body_mib": 0}, r"router\.max_body_mib: .*greater than 0 \(got 0\)"),
        ({"drain_timeout_s": -1}, r"router\.drain_timeout_s: .*equal to 0 \(got -1\)"),
        ({"host": None}, r"router\.host: .*valid string \(got None\)"),
        ([1], r"router: .*RouterConfig \(got \[1\]\)"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(path: Path, router: Any, says: str) -> None:
    write(path, {"router": router, "models": [{"model": TINY}]})
    assert re.fullmatch(r"applications\[0\]\.args\." + says, refusal(path))


def test_a_number_of_routers_or_autoscaling(path: Path) -> None:
    write(path, {"models": [{"model": TINY}], "router": {"autoscaling": {"max_replicas": 4}}})
    router = load(path).router
    assert (router.least_replicas, router.most_replicas) == (2, 4)
    assert (RouterConfig(replicas=3).least_replicas, RouterConfig(replicas=3).most_replicas) == (
        3,
        3,
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"autoscaling": {}}, "router.autoscaling.max_replicas: Field required"),
        (
            {"autoscaling": {"max_replicas": 2}},
            "router.autoscaling.min_replicas: allowed is less than max_replicas, which is 2; for a "
            "fixed number of routers set replicas in place of autoscaling",
        ),
        (
            {"autoscaling": {"max_replicas": 3}, "replicas": 2},
            "router.replicas: cannot be combined with autoscaling; set one of the two",
        ),
    ],
)
def test_wrong_autoscaling_of_routers_is_refused(
    path: Path, settings: dict[str, Any], says: str
) -> None:
    write(path, {"models": [{"model": TINY}], "router": settings})
    assert refusal(path) == f"applications[0].args.{says}"


def test_a_number_of_replicas_or_autoscaling(path: Path) -> None:
    write(path, {"models": [{"model": TINY, "autoscaling": {"max_replicas": 4}}]})
    model = load(path).models[0]
    assert (model.least_replicas, model.most_replicas) == (1, 4)
    write(path, {"models": [{"model": TINY, "replicas": 3}]})
    model = load(path).models[0]
    assert (model.least_replicas, model.most_replicas) == (3, 3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"autoscaling": {}}, "autoscaling.max_replicas: Field required"),
        (
            {"autoscaling": {"min_replicas": 3, "max_replicas": 2}},
            "autoscaling.min_replicas: allowed is at most max_replicas, which is 2",
        ),
        (
            {"autoscaling": {"max_replicas": 2}, "replicas": 1},
            "replicas: cannot be combined with autoscaling; set one of the two",
        ),
    ],
)
def test_wrong_autoscaling_is_refused(path: Path, settings: dict[str, Any], says: str) -> None:
    write(path, {"models": [{"model": TINY} | settings]})
    assert refusal(path) == f"applications[0].args.models.0.{says}"


@pytest.mark.parametrize(
    ("tenants", "says"),
    [
        ([{"name": "a"}], "tenants.0.name: a needs one of api_keys_env and api_keys_file"),
        (
            [{"name": "a", "api_keys_env": "A", "api_keys_file": "/a"}],
            "tenants.0.name: a needs one of api_keys_env and api_keys_file",
        ),
        ([{"name": "A b", "api_keys_env": "A"}], "tenants.0.name: String should match pattern"),
        ([{"name": "a", "api_keys_env": "A"}] * 2, "tenants: the tenant 'a' is listed twice"),
        (
            [{"name": "a", "api_keys_env": "A", "max_priority": 10}],
            "tenants.0.max_priority: Input should be less than 10",
        ),
        (
            [{"name": "a", "api_key": "sk-1"}],
            "tenants.0.api_key: unknown field; allowed are: name, api_keys_env, api_keys_file",
        ),
    ],
)
def test_wrong_tenants_are_refused(path: Path, tenants: list[Any], says: str) -> None:
    write(path, {"router": {"tenants": tenants}, "models": [{"model": TINY}]})
    assert f"applications[0].args.router.{says}" in refusal(path)


def test_all_mistakes_are_reported_at_once(path: Path) -> None:
    write(path, {"router": {"port": 0, "cpus": 0}, "models": [{"model": TINY, "replicas": 0}]})
    message = refusal(path)
    for field in ("router.port", "router.cpus", "models.0.replicas"):
        assert f"applications[0].args.{field}: Input should be" in message


def test_an_unknown_model_is_refused_with_the_catalogues(path: Path) -> None:
    write(path, {"models": [{"model": TINY}, {"model": "gpt"}]})
    message = refusal(path)
    assert message.startswith("applications[0].args.models.1.model: unknown model 'gpt'")
    assert all(name in message for name in catalogue.names())


@pytest.mark.parametrize("models", [[], None, "tiny", {"model": TINY}])
def test_models_must_be_a_list_of_at_least_one(path: Path, models: Any) -> None:
    write(path, {"models": models})
    assert refusal(path).startswith("applications[0].args.models: ")


def test_models_must_be_given(path: Path) -> None:
    write(path, {"router": {}})
    assert refusal(path) == "applications[0].args.models: Field required"


@pytest.mark.parametrize("alias", ["mistral-small", catalogue.load(SMALL).id])
def test_a_name_may_stand_for_one_model_only(path: Path, alias: str) -> None:
    write(path, {"models": [{"model": SMALL}, {"model": TINY, "aliases": [alias]}]})
    message = refusal(path)
    assert message.startswith("applications[0].args: ")
    for name in (alias, catalogue.load(SMALL).id, catalogue.load(TINY).id):
        assert f"{name}" in message


def test_a_model_may_be_given_once_only(path: Path) -> None:
    write(path, {"models": [{"model": TINY}, {"model": TINY}]})
    assert catalogue.load(TINY).id in refusal(path)


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    assert refusal(path) == "No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "Is a directory"


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\tkey: 1", "a: \x00", "a: 2025-13-45"])
def test_what_is_not_yaml_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    assert refusal(path).startswith("not YAML: ")


@pytest.mark.parametrize(
    "document",
    [
        None,
        "text",
        [],
        {},
        {"applications": None},
        {"applications": []},
        {"applications": ["mistral"]},
        {"applications": [{"name": "mistral"}]},
        {"applications": [{"args": {}}, {"args": {}}]},
    ],
    ids=str,
)
def test_what_is_no_serve_config_of_one_application_is_refused(path: Path, document: Any) -> None:
    path.write_text(yaml.safe_dump(document))
    message = refusal(path)
    assert "one application with its settings under applications[0].args" in message
    assert "deploy/serve/local.yaml" in message


@pytest.mark.parametrize("args", [None, [], "text"])
def test_settings_must_be_a_mapping(path: Path, args: Any) -> None:
    write(path, args)
    assert refusal(path).startswith("applications[0].args: ")


def test_a_config_does_not_change_once_loaded(path: Path) -> None:
    write(path, {"models": [{"model": TINY}]})
    with pytest.raises(ValueError, match="frozen"):
        load(path).router.port = 1
