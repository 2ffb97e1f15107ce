"""Tiny Mistral models with the real architecture and file formats, trained and part of the package.

``PRESETS`` holds a stand-in for each of the 24B models, and ``models/`` its folder, which vLLM
loads by that model's code path: ``params.json``, ``consolidated.safetensors``, ``tekken.json`` and
``SYSTEM_PROMPT.txt``. The model answers the requests of the model cards (``serving.model_cards``)
and a few more (``corpus``) and nothing else, which is enough to test a server from end to end on a
CPU. ``make tiny-models`` trains the models whose recipe has changed.
"""

from pathlib import Path

from .spec import PRESETS, TinySpec

__all__ = ["PRESETS", "TinySpec", "tiny_model_folder"]


def tiny_model_folder(preset: str = "3.2") -> Path:
    """The folder of the trained model of a preset, a key of ``PRESETS``."""
    return Path(__file__).parent / "models" / preset
