import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from serving import catalogue
from serving.config import AppConfig, ModelConfig, RouterConfig, load
from serving.config.serve_file import APPLICATION_KEYS, KEYS
from tests.support.config_files import path, refusal, write

__all__ = ["path"]

TINY = "tiny-mistral-small-3.2"
SMALL = "mistral-small-3.2-24b-instruct-2506"
SERVE = Path(__file__).parent.parent / "deploy" / "serve"


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
        *("redis://redis/abc", "redis://redis/1/2"),
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


@pytest.mark.parametrize("endpoint", ["a:4317", "grpc://a:4317", "http://a:4318/v1/traces"])
def test_a_collector_is_named_by_its_base_url(path: Path, endpoint: str) -> None:
    write(path, {"tracing": {"otlp_endpoint": endpoint}, "models": [{"model": TINY}]})
    assert "tracing.otlp_endpoint: allowed is the base URL" in refusal(path)


def test_a_setting_that_stands_twice_is_refused(path: Path) -> None:
    path.write_text(
        f"applications:\n- args:\n    models: [{{model: {TINY}}}]\n"
        "    router: {port: 1, port: 2}\n"
    )
    assert refusal(path) == "not YAML: line 4: port stands twice, first in line 4"


@pytest.mark.parametrize(
    "origins", [["*"], ["https://a.b", "http://localhost:3000", "http://[::1]:1"], ["moz-ext://a"]]
)
def test_origins_are_what_browsers_send(path: Path, origins: list[str]) -> None:
    write(path, {"router": {"cors_origins": origins}, "models": [{"model": TINY}]})
    assert load(path).router.cors_origins == tuple(origins)


@pytest.mark.parametrize("field", ["host", "weights", "adapters_folder", "aliases"])
def test_an_empty_setting_of_a_model_is_refused(path: Path, field: str) -> None:
    value = [""] if field == "aliases" else ""
    write(path, {"models": [{"model": TINY, field: value}]})
    assert f"models.0.{field}: an empty text says nothing" in refusal(path)


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
        ({"host": None}, r"router\.host: .*valid string \(got nothing\)"),
        ({"port": True}, r"router\.port: Input should be a number \(got true\)"),
        ({"max_body_mib": True}, r"router\.max_body_mib: .*a number \(got true\)"),
        ({"host": ""}, r"router\.host: an empty text says nothing.*"),
        ({"ledger": {"folder": ""}}, r"router\.ledger\.folder: an empty text.*"),
        ({"responses": {"folder": ""}}, r"router\.responses\.folder: an empty text.*"),
        ({"authentication": {"keys_file": ""}}, r"router\.authentication\.keys_file: an empty .*"),
        ({"cors_origins": [""]}, r"router\.cors_origins: an empty text.*"),
        ({"cors_origins": "*"}, r"router\.cors_origins: Input should be a list \(got '\*'\)"),
        ({"cors_origins": ["https://a.b/"]}, r"router\.cors_origins: .* sends 'https://a\.b/'.*"),
        ({"cors_origins": ["https://a.b/c"]}, r"router\.cors_origins: no browser sends .*"),
        ({"cors_origins": ["https://A.b"]}, r"router\.cors_origins: no browser sends .*"),
        ({"cors_origins": ["a.b"]}, r"router\.cors_origins: no browser sends 'a\.b'.*"),
        ({"max_bodies_mib": 63}, r"router\.max_bodies_mib: .*max_body_mib, which is 64.*"),
        ([1], r"router: Input should be a mapping \(got \[1\]\)"),
        (None, r"router: Input should be a mapping \(got nothing\)"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(path: Path, router: Any, says: str) -> None:
    write(path, {"router": router, "models": [{"model": TINY}]})
    assert re.fullmatch(r"applications\[0\]\.args\." + says, refusal(path))


@pytest.mark.parametrize(
    ("file", "application", "says"),
    [
        (
            {"proxy_locatoin": "Disabled"},
            {},
            "proxy_locatoin: unknown field; allowed are: proxy_lo",
        ),
        ({}, {"rout_prefix": None}, "applications[0].rout_prefix: unknown field; allowed are: "),
        ({"proxy_location": "Disabeld"}, {}, "proxy_location: must be Disabled"),
        ({"proxy_location": "EveryNode"}, {}, "proxy_location: must be Disabled"),
        ({}, {"import_path": "serving.app:buidl"}, "applications[0].import_path: must be serving."),
    ],
)
def test_a_mistake_around_the_settings_is_named(
    path: Path, file: dict[str, Any], application: dict[str, Any], says: str
) -> None:
    application |= {"name": "mistral", "args": {"models": [{"model": TINY}]}}
    path.write_text(yaml.safe_dump({"applications": [application]} | file))
    assert refusal(path).startswith(says)


def test_all_keys_of_rays_schema_are_known() -> None:
    assert set(KEYS) == ServeDeploySchema.model_fields.keys()
    assert set(APPLICATION_KEYS) == ServeApplicationSchema.model_fields.keys()


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
        ([{"name": "a"}], "tenants: cannot be told apart without authentication.keys_file"),
        ([{"name": "A b"}], "tenants.0.name: String should match pattern"),
        ([{"name": "a"}] * 2, "tenants: the tenant 'a' is listed twice"),
        (
            [{"name": "a", "max_priority": 10}],
            "tenants.0.max_priority: Input should be less than 10",
        ),
        (
            [{"name": "a", "api_key": "sk-1"}],
            "tenants.0.api_key: unknown field; allowed are: name, ",
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
