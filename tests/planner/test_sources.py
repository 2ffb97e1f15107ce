import pytest

from serving import catalogue
from serving.planner.sources import sources

SMALL = "mistral-small-3.2-24b-instruct-2506"


@pytest.mark.parametrize(
    ("variant", "gpu", "size", "extrapolated"),
    [
        ("bf16-tp2", "H100-80GB", 2, []),
        ("bf16-tp2", "H200", 2, ["to 2 x H200 from H100-80GB"]),
        ("bf16-tp2", "H100-80GB", 4, ["to 4 x H100-80GB from tensor parallel 2"]),
        ("fp8", "H100-80GB", 1, ["fp8 was not measured"]),
        ("fp8", "A100-80GB", 1, ["from H100-80GB", "multiplies fp8 weights in bf16"]),
        ("int4", "L40S", 2, ["int4 was not measured", "without NVLink"]),
    ],
)
def test_extrapolations_are_told(
    variant: str, gpu: str, size: int, extrapolated: list[str]
) -> None:
    entry = catalogue.load(SMALL, variant).on(gpu=gpu, tensor_parallel_size=size)
    lines = sources(entry)
    told = [line for line in lines if line.startswith("Extrapolated")]
    assert len(told) == len(extrapolated)
    for line, part in zip(told, extrapolated, strict=True):
        assert part in line
    assert any(line.startswith("Speed: not measured") for line in lines)
