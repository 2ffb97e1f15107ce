"""The settings of a model, over those of its catalogue entry."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving import catalogue
from serving.config import AppConfig, ModelConfig, load
from tests.support.config_files import path, refusal, write

__all__ = ["path"]

TINY = "tiny-mistral-small-3.2"
SMALL = "mistral-small-3.2-24b-instruct-2506"


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
        ({"weights": ""}, "weights", "an empty text says nothing"),
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
        ({"max_model_len": 131073}, "context_tokens", "131073 is above 131072, all that"),
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
        *("https://cdn.example.com/", "cdn.example.com/a", "cdn.example.com:443", "*"),
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


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "int4", "gpu": "H100-80GB", "context_tokens": 131072},
        {"weights": "me/longer", "context_tokens": 140000},
        {"vllm_args": {"hf-overrides": {"rope_scaling": {}}}, "context_tokens": 140000},
    ],
)
def test_a_context_may_be_that_of_the_model_of_own_weights_or_stretched(
    settings: dict[str, Any],
) -> None:
    entry = ModelConfig.model_validate({"model": SMALL} | settings).entry
    assert entry.context_tokens == settings["context_tokens"]


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
