"""Networks whose numbers are published."""

from serving.catalogue.memory import Network

MISTRAL_SMALL = Network(
    hidden_size=5120,
    layers=40,
    heads=32,
    kv_heads=8,
    head_dim=128,
    ffn_size=32768,
    vocab_size=131072,
)
QWEN3_32B = Network(
    hidden_size=5120,
    layers=64,
    heads=64,
    kv_heads=8,
    head_dim=128,
    ffn_size=25600,
    vocab_size=151936,
)
