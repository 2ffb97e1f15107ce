"""Tiny Mistral models with the real architecture and file formats, trained on first use.

``PRESETS`` holds a stand-in for each of the 24B models. ``ensure_tiny_model`` returns a model
folder that vLLM loads by that model's code path: ``params.json``, ``consolidated.safetensors``,
``tekken.json`` and ``SYSTEM_PROMPT.txt``. The model answers the requests of the model cards
(``serving.model_cards``) and a few more (``corpus``) and nothing else, which is enough to test a
server from end to end on a CPU.
"""

from pathlib import Path

from serving import model_cards

from .cache import cache_root, content_hash, ensure_folder
from .spec import PRESETS, TinySpec

__all__ = ["PRESETS", "TinySpec", "ensure_tiny_model", "tiny_model_folder"]


def tiny_model_folder(spec: TinySpec | None = None) -> Path:
    """Where ``ensure_tiny_model`` puts the model of a spec; the folder need not exist yet."""
    spec = spec or TinySpec()
    digest = content_hash(Path(__file__).parent, spec, Path(model_cards.__file__).read_bytes())
    return cache_root() / f"tiny-{spec.corpus}-{digest}"


def ensure_tiny_model(spec: TinySpec | None = None) -> Path:
    """The folder of the trained model, trained now if the cache has none.

    Training takes about 80 seconds on two cores, less without vision, and shows its progress on
    stderr. The folder's name holds a hash of this package's sources, of the model cards' texts and
    of ``spec``, so a changed recipe trains anew. Several processes may call this at once. Raises
    ``TrainingError`` if the model has not learnt its corpus.
    """
    spec = spec or TinySpec()

    def build(folder: Path) -> None:
        from .build import build_model  # imports torch, which a cached model does not need

        build_model(spec, folder)

    return ensure_folder(tiny_model_folder(spec), build)
