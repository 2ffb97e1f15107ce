"""Tests of `mistral-serve calibrate`, with tiny shapes on the CPU."""

import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from serving import catalogue
from serving.calibration.record import path_of
from serving.catalogue import gpus
from serving.cli.commands import app
from serving.simulator.spec import engine_spec

TINY = "tiny-mistral-small-3.2"


def calibrate(*args: str) -> Result:
    """Runs the command, whose output is a pipe."""
    return CliRunner().invoke(app, ["calibrate", *args])


def test_what_is_measured_takes_the_place_of_the_data_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / gpus.MEASURED / "A10G.yaml"
    result = calibrate(TINY, "--device", "cpu", "--gpu", "A10G", "--out", str(path))
    assert result.exit_code == 0, result.output
    assert f"written to {path}" in result.output
    assert "the A10G has no such products" in result.output
    entry = catalogue.load("mistral-small-3.2-24b-instruct-2506", "int4").on(gpu="A10G")
    entry = entry.on(tensor_parallel_size=4, context_tokens=4096)
    before = engine_spec(entry.model_copy(update={"weights_dtype": "bf16"})).step_time

    monkeypatch.setattr(gpus, "_FILES", tmp_path)
    gpus.calibrations.cache_clear()
    try:
        known = gpus.efficiency("A10G", "bf16", 2)
        after = engine_spec(entry.model_copy(update={"weights_dtype": "bf16"})).step_time
    finally:
        gpus.calibrations.cache_clear()
    assert known.measured and known.extrapolated is None
    assert known.source.startswith(f"measured on CPU, torch {torch.__version__}, 20")
    assert after.prefill_tokens_per_s < before.prefill_tokens_per_s / 10, "it is no A10G"


def test_a_gpu_is_known_by_the_name_that_its_driver_gives() -> None:
    assert gpus.gpu_of_device("NVIDIA H100 80GB HBM3") == "H100-80GB"
    assert gpus.gpu_of_device("NVIDIA A100-SXM4-40GB") == "A100-40GB"
    assert gpus.gpu_of_device("NVIDIA GeForce RTX 4090") == "RTX-4090"
    assert gpus.gpu_of_device("NVIDIA H100 PCIe") is None, "it is slower"
    assert path_of("H200").parent.name == gpus.MEASURED


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--device", "cpu"), "--device cpu needs --out"),
        (("--device", "cpu", "--out", "x.yaml"), "the peaks of CPU are not known"),
        (("mistral-large",), "unknown model 'mistral-large'"),
    ],
)
def test_what_cannot_be_done_is_said(args: tuple[str, ...], said: str) -> None:
    result = calibrate(*args)
    assert result.exit_code != 0
    assert said in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    result = calibrate()
    assert result.exit_code == 1
    assert "finds no GPU" in result.output


def test_without_pytorch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = calibrate()
    assert result.exit_code == 1
    assert "needs PyTorch" in result.output
