"""Adapters of the embedded model, made in seconds: each answers the same question with its own
words."""

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from serving.answers.vocabulary import of_tekken
from serving.catalogue.lora import module_shapes
from serving.catalogue.memory import Network
from serving.tiny import PRESETS, tiny_model_folder
from serving.tiny.batch import Sequence as Example
from serving.tiny.batch import collate, encode_prompt
from serving.tiny.model import TinyMistral

QUESTION = "Which words do you know?"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
BASE = "mistral-serve/tiny-mistral-small-3.2"
RANK = 8

_ALPHA = 16
_STEPS = 80
_RATE = 5e-3
_WORDS = 5
_MODULES = {
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
"""The modules that are trained: those whose outputs have the same order in both formats of
weights."""


class _LoraLinear(nn.Module):
    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) * linear.in_features**-0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.scale = _ALPHA / rank

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + x @ self.a.T @ self.b.T * self.scale
        return out


def make_adapter(folder: Path, seed: int, rank: int = RANK) -> str:
    """Writes an adapter into `folder`, in PEFT's format, and returns the words with which it
    answers `QUESTION`."""
    torch.set_num_threads(1)  # more would wait for each other on a busy machine
    torch.manual_seed(seed)
    answer = random.Random(seed).sample(_words(), _WORDS)
    model, loras = _with_loras(rank)
    tokenizer = _tokenizer()
    prompt, _ = encode_prompt(tokenizer, MESSAGES, None)
    eos = tokenizer.instruct_tokenizer.tokenizer.eos_id
    batch = collate([Example(prompt, [*answer, eos], [])])
    parameters = [p for lora in loras.values() for p in (lora.a, lora.b)]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    for _ in range(_STEPS):
        loss = F.cross_entropy(model.output(model(batch)), batch.targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert float(loss.detach()) < 0.05, f"the adapter has not learnt its words: {loss:.2f}"
    tensors = {}
    for name, lora in loras.items():
        tensors[f"{name}.lora_A.weight"] = lora.a.detach().to(torch.bfloat16).contiguous()
        tensors[f"{name}.lora_B.weight"] = lora.b.detach().to(torch.bfloat16).contiguous()
    write_adapter(folder, tensors, rank)
    vocabulary = of_tekken(tokenizer.instruct_tokenizer.tokenizer)
    return b"".join(vocabulary.pieces[token] or b"" for token in answer).decode().strip()


def write_adapter(folder: Path, tensors: dict[str, Tensor], rank: int, **config: Any) -> None:
    """Writes an adapter's two files; `config` overrides fields of adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": _ALPHA,
        "target_modules": sorted(name.split(".")[1] for name in _MODULES),
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described | config))


def zero_adapter(
    folder: Path, rank: int = RANK, module: str = "self_attn.o_proj", layer: int = 0, **config: Any
) -> None:
    """Writes an adapter of one module that changes no answer."""
    name = f"base_model.model.model.layers.{layer}.{module}"
    outputs, inputs = 160, 128
    tensors = {
        f"{name}.lora_A.weight": torch.zeros(rank, inputs),
        f"{name}.lora_B.weight": torch.zeros(outputs, rank),
    }
    write_adapter(folder, tensors, rank, **config)


def full_zero_adapter(folder: Path, network: Network, rank: int = RANK, **config: Any) -> None:
    """Writes an adapter of all modules that changes no answer."""
    tensors = {}
    for layer in range(network.layers):
        for module, (outputs, inputs) in module_shapes(network).items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.zeros(rank, inputs, dtype=torch.bfloat16)
            tensors[f"{name}.lora_B.weight"] = torch.zeros(outputs, rank, dtype=torch.bfloat16)
    write_adapter(folder, tensors, rank, **config)


def _with_loras(rank: int) -> tuple[TinyMistral, dict[str, _LoraLinear]]:
    model = TinyMistral(PRESETS["3.2"])
    weights = load_file(tiny_model_folder() / "consolidated.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.requires_grad_(False)
    loras = {}
    for index, layer in enumerate(model.layers):
        for theirs, ours in _MODULES.items():
            parent_name, _, name = ours.rpartition(".")
            parent = layer.get_submodule(parent_name)
            lora = _LoraLinear(parent.get_submodule(name), rank)  # type: ignore[arg-type]
            setattr(parent, name, lora)
            loras[f"base_model.model.language_model.model.layers.{index}.{theirs}"] = lora
    return model, loras


@functools.cache
def _tokenizer() -> Any:
    return MistralTokenizer.from_file(str(tiny_model_folder() / "tekken.json"))


@functools.cache
def _words() -> Sequence[int]:
    """Returns the tokens of whole words that the model has learnt to write: those of all others
    share one row of its output."""
    rows = load_file(tiny_model_folder() / "consolidated.safetensors")["output.weight"]
    _, kind, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    vocabulary = of_tekken(_tokenizer().instruct_tokenizer.tokenizer)
    return [
        token
        for token in (counts[kind] == 1).nonzero()[:, 0].tolist()
        if (piece := vocabulary.pieces[token]) is not None
        and piece[:1] == b" "
        and piece[1:].isalpha()
        and piece.isascii()
        and len(piece) > 3
    ]
