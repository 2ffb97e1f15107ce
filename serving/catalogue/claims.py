"""Compares what an entry says of its model with what the weights' own files say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.catalogue.entry import CatalogueEntry

Json = Mapping[str, Any]

_LENGTHS = ("max_position_embeddings", "max_seq_len")
"""Names of the context length in params.json and config.json. vLLM holds the lowest to be it."""

_CONTROL_TOKENS = {
    "v7": ("[TOOL_CALLS]",),
    "v11": ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    "v13": ("[TOOL_CALLS]", "[ARGS]"),
}
"""The control tokens of each tokenizer version that answers are read by."""
_INSTRUCTION = "[INST]"
_IMAGE_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
_TOOL_CALLS_OF_V7 = 9
"""The id of [TOOL_CALLS], by which the router bans calls under tokenizer v7."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A JSON file of the weights."""

    name: str
    content: Json


def mismatches(
    entry: CatalogueEntry,
    network: WeightsFile | None,
    tekken: WeightsFile | None,
    *,
    template: str | None = None,
) -> list[str]:
    """Returns a message for each claim of `entry` that its weights contradict, with both values.

    `network` is params.json, or config.json of weights in Hugging Face's format, `tekken` is
    tekken.json, and `template` the chat template that lies beside the weights: prompts are not made
    by it, but it shows which ones a fine-tune was trained on. A file that is None or does not state
    a value contradicts nothing.
    """
    found: list[str] = []
    if network is not None:
        found += _of_network(entry, network)
    if tekken is not None:
        found += _of_tokenizer(entry, tekken)
    if network is not None and tekken is not None:
        found += _of_vocabulary(network, tekken)
    if template is not None and _INSTRUCTION not in template:
        found.append(
            f"prompts have {_INSTRUCTION}, and the chat template beside the weights has not: they "
            "were trained on other prompts"
        )
    return found


def _of_vocabulary(network: WeightsFile, tekken: WeightsFile) -> Iterator[str]:
    text: Json = network.content.get("text_config") or network.content
    embedded = text.get("vocab_size")
    tokens = (tekken.content.get("config") or {}).get("default_vocab_size")
    if type(embedded) is int and type(tokens) is int and embedded < tokens:
        yield f"{tekken.name} has {tokens} tokens, and {network.name} has room for {embedded}"


def _of_network(entry: CatalogueEntry, network: WeightsFile) -> Iterator[str]:
    limit = _context_tokens(network.content)
    if limit is not None and entry.context_tokens > limit and not is_stretched(entry):
        yield f"context_tokens is {entry.context_tokens}, and {network.name} allows {limit}"
    if entry.image_limit and not _sees(network.content):
        yield f"image_limit is {entry.image_limit}, and {network.name} has no vision encoder"


def _context_tokens(network: Json) -> int | None:
    text: Json = network.get("text_config") or network
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if rope.get("factor"):  # Scaled positions may reach further than the stated length.
        return None
    stated = [text[name] for name in _LENGTHS if type(text.get(name)) is int]
    return min(stated, default=None)


def is_stretched(entry: CatalogueEntry) -> bool:
    """Whether the entry has vLLM take another length than the weights'."""
    return any(flag.replace("_", "-").startswith("hf-overrides") for flag in entry.vllm_args)


def _sees(network: Json) -> bool:
    return any(network.get(name) for name in ("vision_encoder", "multimodal", "vision_config"))


def _of_tokenizer(entry: CatalogueEntry, tekken: WeightsFile) -> Iterator[str]:
    version = (tekken.content.get("config") or {}).get("version")
    if version is not None and version != entry.tokenizer:
        yield f"tokenizer is {entry.tokenizer}, and {tekken.name} is of version {version}"
        return
    tokens = tekken.content.get("special_tokens")
    if not tokens:  # The first files of v7 have none, and stand for the tokens of their time.
        return
    ids = {token["token_str"]: token["rank"] for token in tokens}
    needed = _CONTROL_TOKENS[entry.tokenizer] + (_IMAGE_TOKENS if entry.image_limit else ())
    if absent := [token for token in needed if token not in ids]:
        with_images = " with images" if entry.image_limit else ""
        yield (
            f"tokenizer {entry.tokenizer}{with_images} has {' '.join(needed)}, and {tekken.name} "
            f"lacks {' '.join(absent)}"
        )
    elif entry.tokenizer == "v7" and ids["[TOOL_CALLS]"] != _TOOL_CALLS_OF_V7:
        yield (
            f"tokenizer v7 has [TOOL_CALLS] as token {_TOOL_CALLS_OF_V7}, and {tekken.name} as "
            f"token {ids['[TOOL_CALLS]']}"
        )
