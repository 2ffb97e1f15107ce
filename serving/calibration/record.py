"""The file of a calibration, in the catalogue's format."""

from pathlib import Path

import yaml

from serving.catalogue import gpus
from serving.catalogue.gpus import Calibration

_HEAD = """\
# Written by `mistral-serve calibrate`: parts of the peaks in gpus.yaml that plain PyTorch gets with
# this model's matrices and attention. Not measured: step_overhead_ms, which is vLLM's, and the time
# that GPUs take to exchange what they share.
"""


def path_of(gpu: str) -> Path:
    """The path where the catalogue looks for a GPU type's calibration."""
    return Path(gpus.__file__).parent / gpus.MEASURED / f"{gpu}.yaml"


def write(calibration: Calibration, path: Path) -> None:
    """Writes the calibration. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False)
    path.write_text(_HEAD + document, encoding="utf-8")
