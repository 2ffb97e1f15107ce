import pytest

from serving.catalogue import gpus
from serving.catalogue.gpus import Calibration, Measured
from serving.catalogue.memory import WeightsDtype

PARTS = {"products": 0.7, "attention": 0.6, "weights": 0.9, "kv_cache": 0.8}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an L40S, bf16 on one GPU and on two."""
    efficiencies = tuple(
        Measured(weights_dtype="bf16", tensor_parallel_size=size, step_overhead_ms=size, **PARTS)
        for size in (1, 2)
    )
    calibration = Calibration.model_validate(
        {
            "gpu": "L40S",
            "device": "NVIDIA L40S",
            "date": "2026-11-21",
            "versions": {"torch": "2.13.0"},
            "shapes_of": "a model",
            "efficiencies": efficiencies,
        }
    )
    monkeypatch.setattr(gpus, "calibrations", lambda: {"L40S": calibration})


@pytest.mark.parametrize(
    ("gpu", "dtype", "size", "extrapolated"),
    [
        ("H100-80GB", "bf16", 1, None),
        ("H100-80GB", "bf16", 2, None),
        ("H100-80GB", "bf16", 4, "from tensor parallel 2"),
        ("H200", "bf16", 2, "from H100-80GB"),
        ("H100-80GB", "fp8", 1, "an assumption"),
        ("A100-80GB", "fp8", 1, "from H100-80GB"),  # multiplies in bf16
    ],
)
def test_what_was_not_measured_is_published_or_extrapolated(
    gpu: str, dtype: WeightsDtype, size: int, extrapolated: str | None
) -> None:
    known = gpus.efficiency(gpu, dtype, size)
    assert not known.measured
    assert known.extrapolated == extrapolated


@pytest.mark.usefixtures("measured")
def test_measured_figures_go_first_and_are_carried_over_to_more_gpus() -> None:
    known = gpus.efficiency("L40S", "bf16", 2)
    assert known.measured and known.extrapolated is None
    assert known.efficiency.step_overhead_ms == 2
    assert known.source == "measured on NVIDIA L40S, torch 2.13.0, 2026-11-21"
    four = gpus.efficiency("L40S", "bf16", 4)
    assert four.measured and four.extrapolated == "from tensor parallel 2"
    assert four.efficiency == known.efficiency


@pytest.mark.usefixtures("measured")
def test_other_formats_and_gpus_are_as_before() -> None:
    assert not gpus.efficiency("L40S", "int4", 1).measured
    assert not gpus.efficiency("H200", "bf16", 1).measured


def test_an_unknown_gpu_is_no_guess() -> None:
    with pytest.raises(KeyError):
        gpus.efficiency("H9000", "fp8", 1)
    with pytest.raises(KeyError):
        gpus.usable_gib("H9000")
