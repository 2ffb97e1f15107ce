"""Writes a model folder in Mistral's format as one GGUF file, in llama.cpp's environment:

python write_gguf.py FOLDER FILE.gguf [f16|q8_0]
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}\
{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ message.content }}[/SYSTEM_PROMPT]\
{% elif message.role == 'user' %}[INST]{{ message.content }}[/INST]\
{% else %}{{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"""
"""The prompts of tokenizer v7 without tools."""

_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
_TENSORS = {
    "tok_embeddings": "token_embd",
    "norm": "output_norm",
    "output": "output",
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "attention_norm": "attn_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "ffn_norm": "ffn_norm",
}


def write(folder: Path, file: Path, precision: str) -> None:
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_file_type(_FILE_TYPES[precision])
    add_network(writer, json.loads((folder / "params.json").read_text()))
    add_tokenizer(writer, json.loads((folder / "tekken.json").read_text()))
    dtype = gguf.GGMLQuantizationType[precision.upper()]
    for name, tensor in tensors(folder / "consolidated.safetensors"):
        if tensor.ndim == 1:  # a norm
            writer.add_tensor(name, tensor)
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_network(writer: gguf.GGUFWriter, params: dict[str, Any]) -> None:
    writer.add_block_count(params["n_layers"])
    writer.add_context_length(params["max_position_embeddings"])
    writer.add_embedding_length(params["dim"])
    writer.add_feed_forward_length(params["hidden_dim"])
    writer.add_head_count(params["n_heads"])
    writer.add_head_count_kv(params["n_kv_heads"])
    writer.add_key_length(params["head_dim"])
    writer.add_value_length(params["head_dim"])
    writer.add_rope_dimension_count(params["head_dim"])
    writer.add_rope_freq_base(params["rope_theta"])
    writer.add_layer_norm_rms_eps(params["norm_eps"])
    writer.add_vocab_size(params["vocab_size"])


def add_tokenizer(writer: gguf.GGUFWriter, tekken: dict[str, Any]) -> None:
    config = tekken["config"]
    names = {token["rank"]: token["token_str"] for token in tekken["special_tokens"]}
    specials = config["default_num_special_tokens"]
    ranked = tekken["vocab"][: config["default_vocab_size"] - specials]
    words = [base64.b64decode(word["token_bytes"]) for word in ranked]
    control = [names.get(rank, f"<SPECIAL_{rank}>") for rank in range(specials)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("tekken")
    writer.add_token_list([*control, *map(visible, words)])
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * specials + [gguf.TokenType.NORMAL] * len(words)
    )
    writer.add_token_merges(list(merges(words)))
    writer.add_bos_token_id(control.index("<s>"))
    writer.add_eos_token_id(control.index("</s>"))
    writer.add_unk_token_id(control.index("<unk>"))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _visible_bytes() -> list[str]:
    """The character that GPT-2's vocabularies write for each byte."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in shown)
    moved = {byte: 256 + index for index, byte in enumerate(others)}
    return [chr(moved.get(byte, byte)) for byte in range(256)]


_VISIBLE = _visible_bytes()


def visible(word: bytes) -> str:
    return "".join(_VISIBLE[byte] for byte in word)


def merges(words: list[bytes]) -> Iterator[str]:
    """All pairs of words that make a word, by the rank of what they make: Tekken merges the pair
    that makes the word of the lowest rank."""
    known = set(words)
    for word in words:
        for cut in range(1, len(word)):
            left, right = word[:cut], word[cut:]
            if left in known and right in known:
                yield f"{visible(left)} {visible(right)}"


def tensors(file: Path) -> Iterator[tuple[str, Any]]:
    """All tensors in float32 by llama.cpp's names. Mistral's format has the rotated pairs of a head
    beside each other, as llama.cpp has."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        assert entry["dtype"] == "BF16", name
        low, high = entry["data_offsets"]
        bits = np.frombuffer(data[begin + low : begin + high], np.uint16)
        values = (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
        name = name.removesuffix(".weight")
        block = ""
        if name.startswith("layers."):
            _, layer, name = name.split(".", 2)
            block = f"blk.{layer}."
        yield f"{block}{_TENSORS[name]}.weight", values


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), *(sys.argv[3:] or ["f16"]))
