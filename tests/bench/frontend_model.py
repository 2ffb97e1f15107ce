"""A model for the front-end benchmark: a real tokenizer's size, and a network that costs nothing.

Its tokenizer has all 131,072 ids of Mistral-Small-3.2's and its special tokens; its network has one
layer that adds nothing, and recites a fixed text. So what a server spends on a request is spent
around the model, and what it streams is text as text is: words, and no broken characters.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from serving.tiny.model import TinyMistral
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import Tokenizer, write_tokenizer

_OPENING = '{"text": "'
_CYCLE = (
    " The quick brown fox jumps over a lazy dog while seven wizards brew strong coffee, and their"
    " clever neighbours argue about music from Vienna, old maps of Peru or how to build boats that"
    " never sink; nobody knows why it matters, yet everyone listens until night falls."
)
"""The text that the network recites for ever after the opening: a JSON string, so that a grammar
allows it too."""


def write_model(folder: Path) -> None:
    """Writes the model's files into `folder`, which exists: 80 MB, in a second or two."""
    spec = TinySpec(
        vocab_tokens=130_072, dim=128, n_layers=1, hidden_dim=64, n_heads=1, n_kv_heads=1
    )
    tokenizer = write_tokenizer(spec, folder)
    weights = TinyMistral(spec).to(torch.bfloat16).state_dict()
    _recite(weights, _tokens(tokenizer, _OPENING), _tokens(tokenizer, _CYCLE))
    save_file(weights, folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(spec.params()))


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text's tokens, each occurring once, so that a token determines the next."""
    ids = tokenizer.instruct_tokenizer.tokenizer.encode(text, bos=False, eos=False)
    return list(dict.fromkeys(ids))


def _recite(weights: dict[str, torch.Tensor], opening: list[int], cycle: list[int]) -> None:
    """Sets the network's weights. After any token but its own the network begins with the opening;
    each of its own tokens has a dimension, in which the token that follows has its only weight."""
    for name in ("attention.wo", "feed_forward.w2"):
        weights[f"layers.0.{name}.weight"].zero_()
    embeddings, output = weights["tok_embeddings.weight"].zero_(), weights["output.weight"].zero_()
    text = opening + [token for token in cycle if token not in opening]
    following = [*text[1:], text[len(opening)]]
    embeddings[:, 0] = output[text[0], 0] = 1
    for dimension, (token, after) in enumerate(zip(text, following, strict=True), start=1):
        embeddings[token, 0] = 0
        embeddings[token, dimension] = output[after, dimension] = 1
