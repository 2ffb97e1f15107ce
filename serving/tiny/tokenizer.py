"""A small Tekken tokenizer, a part of the full vocabulary that ships with mistral-common."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from .spec import TinySpec

Tokenizer = MistralTokenizer[Any, Any, Any, Any, Any]

TEKKEN_FILE = "tekken.json"
_SOURCE = "tekken_240911.json"
_TOOL_TOKENS = {32: "[ARGS]", 33: "[CALL_ID]"}


def _special_tokens(spec: TinySpec) -> list[dict[str, Any]]:
    names = [
        str(getattr(t["token_str"], "value", t["token_str"]))
        for t in Tekkenizer.DEPRECATED_SPECIAL_TOKENS
    ]
    tool_tokens = {} if spec.tokenizer_version == "v7" else _TOOL_TOKENS
    last = max(tool_tokens, default=len(names) - 1)
    names += [tool_tokens.get(i, f"<SPECIAL_{i}>") for i in range(len(names), last + 1)]
    return [{"rank": i, "token_str": n, "is_control": True} for i, n in enumerate(names)]


def tekken(spec: TinySpec) -> dict[str, Any]:
    """The content of ``tekken.json``: the most frequent tokens and the real special tokens.

    BPE ranks are merge order, so any prefix of the vocabulary is again a vocabulary. Text outside
    it falls back to shorter tokens and at last to single bytes: every string round-trips.
    """
    source = json.loads(files("mistral_common").joinpath("data", _SOURCE).read_text("utf-8"))
    model: dict[str, Any] = {
        "config": {
            **source["config"],
            "num_vocab_tokens": spec.vocab_tokens,
            "default_vocab_size": spec.vocab_size,
            "default_num_special_tokens": spec.special_tokens,
            "version": spec.tokenizer_version,
        },
        "vocab": source["vocab"][: spec.vocab_tokens],
        "special_tokens": _special_tokens(spec),
    }
    if spec.vision is not None:
        model["image"] = {
            "image_patch_size": spec.vision.patch_size,
            "max_image_size": spec.vision.image_size,
            "spatial_merge_size": spec.vision.spatial_merge_size,
        }
    return model


def write_tokenizer(spec: TinySpec, folder: Path) -> Tokenizer:
    """Writes ``tekken.json`` into ``folder`` and loads it as a server would."""
    path = folder / TEKKEN_FILE
    path.write_text(json.dumps(tekken(spec), ensure_ascii=False), encoding="utf-8")
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder."""
    return MistralTokenizer.from_file(str(folder / TEKKEN_FILE))
