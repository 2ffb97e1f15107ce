"""GPU types: memory, peaks, and the parts of the peaks that replicas achieve. `gpus.yaml` has data
sheets and published efficiencies; `measured/` has those of `mistral-serve calibrate`, a file for
each type, which take precedence."""

from datetime import date
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from pydantic import Field

from serving.catalogue.memory import WeightsDtype
from serving.section import Section, parse_yaml

_FILES = resources.files(__name__)
MEASURED = "measured"
"""The folder beside this module."""


class Gpu(Section):
    """The data sheet of a GPU type. Peaks are dense, as the maker gives them; see gpus.yaml."""

    usable_gib: float = Field(gt=0)
    """Memory that CUDA can allocate."""
    bf16_tflops: float = Field(gt=0)
    fp8_tflops: float | None = Field(gt=0, default=None)
    """Peak in fp8. None: fp8 weights are multiplied in bf16."""
    gb_per_s: float = Field(gt=0)
    all_reduce_gb_per_s: float | None = Field(gt=0, default=None)
    """Bandwidth between two GPUs without NVLink. None: NVLink, whose time is within the
    efficiencies."""
    nvlink_all_reduce_gb_per_s: float | None = Field(gt=0, default=None)
    """Bandwidth between two GPUs with NVLink."""

    def tflops(self, dtype: WeightsDtype) -> float:
        """The peak for matrix products with weights of that dtype."""
        return self.fp8_tflops or self.bf16_tflops if dtype == "fp8" else self.bf16_tflops


class Efficiency(Section):
    """The parts of a GPU's peaks that a model achieves."""

    products: float = Field(gt=0, le=1)
    """Share of the peak in matrix products of thousands of tokens."""
    attention: float = Field(gt=0, le=1)
    """Share of the bf16 peak in the attention of a prefill."""
    weights: float = Field(gt=0, le=1)
    """Share of the bandwidth at which a decode step reads the weights."""
    kv_cache: float = Field(gt=0, le=1)
    """Share of the bandwidth at which a decode step reads the KV cache."""
    step_overhead_ms: float = Field(ge=0)
    """Fixed time of each step."""


class Reference(Efficiency):
    """Efficiencies that were published, or assumed for other GPUs and tensor parallel sizes by
    extrapolation."""

    gpu: str
    tensor_parallel_sizes: tuple[int, ...]
    source: str


class Measured(Efficiency):
    weights_dtype: WeightsDtype
    tensor_parallel_size: int = Field(ge=1)


class Calibration(Section):
    """The result of `mistral-serve calibrate`."""

    gpu: str
    device: str
    """Name of the device, as its driver reports it."""
    date: date
    versions: dict[str, str]
    shapes_of: str
    """The model whose matrices were multiplied."""
    efficiencies: tuple[Measured, ...]

    @property
    def source(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"measured on {self.device}, {versions}, {self.date}"


class _Catalogue(Section):
    types: dict[str, Gpu]
    reference: dict[WeightsDtype, Reference]


class Known(Section):
    """An efficiency and its origin: `extrapolated` says from where, and is None if it is measured
    or published for this very GPU and size."""

    efficiency: Efficiency
    source: str
    measured: bool
    extrapolated: str | None


_CATALOGUE = _Catalogue.model_validate(parse_yaml(_FILES.joinpath("gpus.yaml").read_bytes()))

GPUS = _CATALOGUE.types
"""The GPU types by name."""


def usable_gib(gpu: str | float) -> float:
    """Usable memory of a GPU type, or the number itself for a GPU given by its memory. Raises
    KeyError."""
    return GPUS[gpu].usable_gib if isinstance(gpu, str) else gpu


def gpu_of_device(device: str) -> str | None:
    """The GPU type of a driver's device name, such as NVIDIA H100 80GB HBM3; None if unknown."""
    return next((name for name in GPUS if all(part in device for part in name.split("-"))), None)


@cache
def calibrations() -> dict[str, Calibration]:
    """The calibrations by GPU type."""
    files = [file for file in _in(_FILES.joinpath(MEASURED)) if file.name.endswith(".yaml")]
    read = (Calibration.model_validate(parse_yaml(file.read_bytes())) for file in files)
    return {calibration.gpu: calibration for calibration in read}


def efficiency(gpu: str, dtype: WeightsDtype, tensor_parallel_size: int) -> Known:
    """The efficiency for that size: the measured one of the largest size up to it, if there is one,
    else the published. Raises KeyError."""
    if dtype == "fp8" and GPUS[gpu].fp8_tflops is None:
        dtype = "bf16"
    calibration = calibrations().get(gpu)
    measured = [
        one
        for one in (calibration.efficiencies if calibration else ())
        if one.weights_dtype == dtype and one.tensor_parallel_size <= tensor_parallel_size
    ]
    if calibration and measured:
        best = max(measured, key=lambda one: one.tensor_parallel_size)
        size = best.tensor_parallel_size
        other = f"from tensor parallel {size}" if size != tensor_parallel_size else None
        return Known(efficiency=best, source=calibration.source, measured=True, extrapolated=other)
    reference = _CATALOGUE.reference[dtype]
    return Known(
        efficiency=reference,
        source=reference.source,
        measured=False,
        extrapolated=_extrapolated(reference, gpu, tensor_parallel_size),
    )


def _extrapolated(reference: Reference, gpu: str, tensor_parallel_size: int) -> str | None:
    if not reference.tensor_parallel_sizes:
        return "an assumption"
    if gpu != reference.gpu:
        return f"from {reference.gpu}"
    if tensor_parallel_size not in reference.tensor_parallel_sizes:
        return f"from tensor parallel {max(reference.tensor_parallel_sizes)}"
    return None


def _in(folder: Traversable) -> list[Traversable]:
    return sorted(folder.iterdir(), key=lambda file: file.name) if folder.is_dir() else []
