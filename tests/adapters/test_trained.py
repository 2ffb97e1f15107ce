"""Adapters that tests train fit the embedded model, and each has words of its own."""

from pathlib import Path

from serving.adapters.adapter import checked
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.config import ModelConfig
from tests.support.tiny_adapters import make_adapter


def test_each_seed_makes_an_adapter_of_other_words(tmp_path: Path) -> None:
    base = base_of(ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused").entry)
    words = {make_adapter(tmp_path / str(seed), seed) for seed in (1, 2)}
    digests = {
        checked(AdapterConfig(name="a", source=str(tmp_path / str(seed))), base).digest
        for seed in (1, 2)
    }
    assert len(words) == len(digests) == 2
