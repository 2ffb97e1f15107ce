"""The files of the catalogue, and reading them."""

import shlex
from pathlib import Path

import pytest

from serving import catalogue
from serving.catalogue import CatalogueError
from serving.catalogue.vllm_flags import vllm_flags
from serving.tiny import PRESETS

SMALL_3_2 = "mistral-small-3.2-24b-instruct-2506"
SMALL_2501 = "mistral-small-24b-instruct-2501"
MAGISTRAL = "magistral-small-2506"
TINY = "tiny-mistral-small-3.2"
LARGE = (SMALL_3_2, SMALL_2501, MAGISTRAL)
VARIANTS = [(name, variant) for name in LARGE for variant in catalogue.read(name).variants]

REQUIRED = "id: a, tokenizer: v7, context_tokens: 9, sampling: {temperature: 0}"
"""Content of a user's own file, but for the weights."""

CARDS = {
    SMALL_3_2: "vllm serve mistralai/Mistral-Small-3.2-24B-Instruct-2506 "
    "--tokenizer_mode mistral --config_format mistral --load_format mistral "
    "--tool-call-parser mistral --enable-auto-tool-choice "
    "--limit-mm-per-prompt '{\"image\":10}' --tensor-parallel-size 2",
    SMALL_2501: "vllm serve mistralai/Mistral-Small-24B-Instruct-2501 "
    "--tokenizer_mode mistral --config_format mistral --load_format mistral "
    "--tool-call-parser mistral --enable-auto-tool-choice",
    MAGISTRAL: "vllm serve mistralai/Magistral-Small-2506 "
    "--tokenizer_mode mistral --config_format mistral --load_format mistral "
    "--tool-call-parser mistral --enable-auto-tool-choice --tensor-parallel-size 2",
}
"""The model cards' commands."""


def flags_of(command: str) -> dict[str, str | bool]:
    _, _, model, *words = shlex.split(command)
    flags: dict[str, str | bool] = {"model": model}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--").replace("_", "-")
            flags[name] = True
        else:
            flags[name] = word
    return flags


def test_the_names_are_sorted_and_hold_the_models_of_the_readme() -> None:
    names = catalogue.names()
    assert names == sorted(names)
    assert {TINY, *LARGE} <= set(names)


@pytest.mark.parametrize("name", catalogue.names())
def test_each_entry_is_valid_and_found_under_its_files_name(name: str) -> None:
    entry = catalogue.load(name)
    assert entry.id.rsplit("/", 1)[-1].lower() == name
    assert (entry.embedded in PRESETS) == (entry.accelerator == "cpu")


def test_no_two_entries_share_an_id_or_an_alias() -> None:
    entries = [catalogue.load(name) for name in catalogue.names()]
    taken = [name for entry in entries for name in (entry.id, *entry.aliases)]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize("name", LARGE)
def test_the_default_variant_has_the_flags_of_the_model_card(name: str) -> None:
    entry = catalogue.load(name)
    card = flags_of(CARDS[name])
    assert entry.weights == card.pop("model")
    assert entry.tensor_parallel_size == int(card.pop("tensor-parallel-size", 1))
    flags = vllm_flags(entry)
    assert flags.pop("limit-mm-per-prompt", None) == (
        {"image": 10} if card.pop("limit-mm-per-prompt", None) == '{"image":10}' else None
    )
    # What the card has the client send, or says in its text.
    assert flags.pop("revision") == entry.revision
    assert flags.pop("max-model-len") == entry.context_tokens
    assert flags.pop("override-generation-config") == entry.sampling.model_dump(
        include={"temperature", "top_p"}, exclude_none=True
    )
    assert flags == card


@pytest.mark.parametrize(
    ("name", "tokenizer", "context_tokens", "image_limit", "sampling"),
    [
        (SMALL_3_2, "v11", 131072, 10, (0.15, None, None)),
        (SMALL_2501, "v7", 32768, 0, (0.15, None, None)),
        (MAGISTRAL, "v7", 40960, 0, (0.7, 0.95, 40960)),
        (TINY, "v11", 131072, 10, (0.15, None, None)),
    ],
)
def test_defaults_and_limits_are_those_of_the_model_cards(
    name: str,
    tokenizer: str,
    context_tokens: int,
    image_limit: int,
    sampling: tuple[float, float | None, int | None],
) -> None:
    entry = catalogue.load(name)
    assert entry.tokenizer == tokenizer
    assert (entry.context_tokens, entry.image_limit) == (context_tokens, image_limit)
    assert tuple(entry.sampling.model_dump().values()) == sampling


def test_the_tiny_model_gets_the_flags_that_it_was_tested_with() -> None:
    assert vllm_flags(catalogue.load(TINY)) == {
        "tokenizer-mode": "mistral",
        "config-format": "mistral",
        "load-format": "mistral",
        "tool-call-parser": "mistral",
        "enable-auto-tool-choice": True,
        "limit-mm-per-prompt": {"image": 10},
        "override-generation-config": {"temperature": 0.15},
        "max-model-len": 131072,
        "enforce-eager": True,
        "kv-cache-memory-bytes": 268435456,
    }


@pytest.mark.parametrize("name", LARGE)
def test_each_model_has_the_variants_that_the_readme_promises(name: str) -> None:
    variants = {v: catalogue.load(name, v) for v in catalogue.read(name).variants}
    assert set(variants) == {"bf16-tp1", "bf16-tp2", "fp8", "int4"}
    assert [variants[v].tensor_parallel_size for v in ("bf16-tp1", "bf16-tp2")] == [1, 2]
    assert [variants[v].weights_dtype for v in ("fp8", "int4")] == ["fp8", "int4"]
    assert (variants["int4"].gpu, variants["int4"].tensor_parallel_size) == ("RTX-4090", 1)


@pytest.mark.parametrize(
    ("name", "of", "card"),
    [
        (f"{SMALL_2501}-gguf", SMALL_2501, "mistral-small:24b-instruct-2501"),
        (f"{MAGISTRAL}_gguf", MAGISTRAL, "magistral:24b-small-2506"),
    ],
)
def test_builds_in_gguf_are_the_models_on_the_servers_that_the_cards_name(
    name: str, of: str, card: str
) -> None:
    variants = {v: catalogue.load(name, v) for v in catalogue.read(name).variants}
    ours = catalogue.load(of)
    for entry in variants.values():
        for field in ("tokenizer", "context_tokens", "sampling", "system_prompt", "reasoning"):
            assert getattr(entry, field) == getattr(ours, field)
    urls = {v: entry.base_url for v, entry in variants.items()}
    assert urls == {
        "ollama-q4": "http://127.0.0.1:11434/v1",
        "ollama-q8_0": "http://127.0.0.1:11434/v1",
        "ollama-fp16": "http://127.0.0.1:11434/v1",
        "llama.cpp": "http://127.0.0.1:8080/v1",
        "lm-studio": "http://127.0.0.1:1234/v1",
    }
    for variant, build in (("q4", "q4_K_M"), ("q8_0", "q8_0"), ("fp16", "fp16")):
        entry = variants[f"ollama-{variant}"]
        assert entry.upstream_model == f"{card}-{build}"
        assert entry.upstream_model in entry.aliases


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_each_variant_fits_the_gpus_that_it_names(name: str, variant: str) -> None:
    memory = catalogue.load(name, variant).memory()
    assert memory and memory.fits, memory and memory.lines()


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_tools_work_the_same_way_in_each_variant(name: str, variant: str) -> None:
    flags = vllm_flags(catalogue.load(name, variant))
    assert flags["tokenizer-mode"] == flags["tool-call-parser"] == "mistral"
    assert flags["enable-auto-tool-choice"] is True


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_the_tokenizer_is_mistrals_own_of_a_pinned_commit(name: str, variant: str) -> None:
    """A conversion to Hugging Face's format need not have Mistral's tokenizer files."""
    base, entry = catalogue.load(name), catalogue.load(name, variant)
    flags = vllm_flags(entry)
    if flags["config-format"] == "hf":
        assert flags["load-format"] == "hf"  # auto takes consolidated files where it finds any
        assert flags["tokenizer"] == base.weights
        assert flags["tokenizer-revision"] == base.revision
    else:
        assert flags["config-format"] == flags["load-format"] == "mistral"
        assert "tokenizer" not in flags


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_commit_is_never_asked_of_another_repository(name: str, variant: str) -> None:
    base, entry = catalogue.load(name), catalogue.load(name, variant)
    assert (entry.weights == base.weights) == (entry.revision == base.revision)


def test_prompts_are_the_model_cards_with_their_own_braces() -> None:
    small, magistral = catalogue.load(SMALL_2501), catalogue.load(MAGISTRAL)
    assert small.system_prompt and magistral.system_prompt
    assert "The current date is {today}.\n\nWhen you're not sure" in small.system_prompt
    assert small.system_prompt.endswith('"Where do you travel from?")')
    assert "NEVER use \\boxed{} in your response.\n\nYour thinking" in magistral.system_prompt
    assert magistral.system_prompt.endswith("Problem:\n\n")


def test_only_what_writes_thoughts_is_a_reasoning_model() -> None:
    reasoning = {name for name in LARGE if catalogue.load(name).reasoning}
    assert reasoning == {MAGISTRAL}


@pytest.mark.parametrize("name", ["", "unknown", "../config", "tiny-mistral-small-3.2.yaml"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        catalogue.load(name)


def test_an_unknown_variant_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        catalogue.load(SMALL_3_2, "int3")


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "id: me/mine\nweights: /models/mine\ntokenizer: v7\n"
        "context_tokens: 1000\nsampling: {temperature: 0}\n"
    )
    entry = catalogue.find(str(path)).entry()
    assert (entry.id, entry.variant, entry.memory()) == ("me/mine", None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id: [", ["not YAML: "]),
        ("revision: 2025-13-45", ["not YAML: month must be in 1..12: quote values that look like"]),
        ("id: a", ["tokenizer: ", "sampling: ", "context_tokens: "]),
        (f"{{{REQUIRED}}}", ["weights: a model of kind vllm needs "]),
        (f"{{{REQUIRED}, weight: b}}", ["weight: unknown field; allowed are: id, aliases, "]),
        (
            f"{{{REQUIRED}, weights: b}}".replace("v7", "v9"),
            ["tokenizer: Input should be 'v7', 'v11' or 'v13' "],
        ),
        (
            f"{{{REQUIRED}, weights: b}}".replace("temperature: 0", "temperature: 0, temp: 1"),
            ["sampling.temp: unknown field; allowed are: temperature"],
        ),
        (
            f"{{{REQUIRED}, weights: b, variants: {{x: {{gpus: 1}}}}}}",
            ["variants.x.gpus: unknown field; allowed are: wei"],
        ),
        ("[]", ["Input should be a mapping"]),
        ("id: a\nid: b", ["not YAML: line 2: id stands twice, first in line 1"]),
        (f"{{{REQUIRED}, weights: b, aliases: ['']}}", ["aliases: an empty text says nothing"]),
    ],
)
def test_a_mistake_in_it_is_told_with_file_field_and_what_is_allowed(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(CatalogueError) as raised:
        catalogue.find(str(path))
    lines = [line for line in str(raised.value).splitlines() if line.startswith(str(path))]
    assert [line[: len(f"{path}: {said}")] for line, said in zip(lines, says, strict=True)] == [
        f"{path}: {said}" for said in says
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.yaml: No such file"):
        catalogue.find(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("weights", "preset"),
    [("embedded", "3.2"), ("embedded:2501", "2501"), ("a/b", None), ("/models/embedded", None)],
)
def test_embedded_weights_name_a_preset(weights: str, preset: str | None) -> None:
    entry = catalogue.load(SMALL_2501).model_copy(update={"weights": weights})
    assert entry.embedded == preset
