"""Tests of `mistral-serve plan`, which must agree with `mistral-serve simulate`."""

import functools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from serving import catalogue, config
from serving.cli.commands import app

CATALOGUE = Path(catalogue.__file__).parent
BF16 = ("--variant", "bf16-tp2")
LONG = ("--context-tokens", "131072", "--gpus-per-node", "1")


def plan(*args: str) -> Result:
    """Runs the command with its output in a pipe."""
    return CliRunner().invoke(app, ["plan", *args])


@functools.cache
def planned(*args: str) -> dict[str, Any]:
    result = plan(*args, "--json")
    assert result.exit_code == 0, result.output
    made: dict[str, Any] = json.loads(result.output)
    return made


def simulated(check: dict[str, Any], path: Path, *more: str) -> dict[str, Any]:
    scenario = path.with_suffix(".yaml")
    scenario.write_text(yaml.safe_dump(check["scenario"]))
    result = CliRunner().invoke(app, ["simulate", str(scenario), *more, "--json", str(path)])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_the_plan_is_what_the_simulator_shows(tmp_path: Path) -> None:
    made = planned(*BF16, "--rate", "4", "--peak", "20")
    for name in ("base", "peak"):
        check = made[name]
        report = simulated(check, tmp_path / f"{name}.json")
        assert report["good_share"] >= 0.99
        for figure in ("requests", "good", "hit_rate", "ttft_p99_s", "itl_p99_s"):
            assert report["total"][figure] == pytest.approx(check["figures"][figure], abs=1e-6)
    assert made["base"]["replicas"] < made["peak"]["replicas"]


def test_fewer_replicas_would_not_do(tmp_path: Path) -> None:
    peak = planned(*BF16, "--rate", "4", "--peak", "20")["peak"]
    fewer = ("--set", f"fleet.replicas={peak['replicas'] - 1}")
    assert simulated(peak, tmp_path / "out.json", *fewer)["good_share"] < 0.99


def test_the_config_is_one_of_the_service(tmp_path: Path) -> None:
    made = planned(*BF16, "--rate", "4", "--peak", "20")
    path = tmp_path / "plan.yaml"
    path.write_text(made["config"])
    (model,) = config.load(path).models
    assert model.least_replicas == made["base"]["replicas"]
    assert model.most_replicas == made["peak"]["replicas"]


def test_the_table_has_the_bound_the_cost_and_what_is_extrapolated() -> None:
    result = plan("--rate", "3", "--variant", "int4", "--gpu", "L40S", "--gpu-hour-price", "1.5")
    text = " ".join(result.output.split())
    assert result.exit_code == 0
    for part in (
        "taken: ",
        "bound by ",
        "GPU-hours, 259,200 requests",
        "at 1.5 a GPU-hour",
        "Extrapolated: int4 was not measured on any GPU",
        "gpu: L40S",
    ):
        assert part in text


def test_the_table_names_the_simulation_that_shows_the_peak(tmp_path: Path) -> None:
    output = plan(*BF16, "--rate", "4").output
    peak = planned(*BF16, "--rate", "4")["peak"]
    command = output.split("mistral-serve simulate ")[1].split("\n\n")[0]
    out = tmp_path / "out.json"
    result = CliRunner().invoke(app, ["simulate", *shlex.split(command), "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["total"]["good"] == peak["figures"]["good"]


def test_a_trace_is_planned_for(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = (
        {"timestamp": 400 * i, "input_length": 600, "output_length": 40, "hash_ids": [0, i + 1]}
        for i in range(50)
    )
    trace.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = planned(*BF16, "--trace", str(trace), "--rate", "5")
    report = simulated(made["peak"], tmp_path / "out.json")
    assert report["total"]["good"] == made["peak"]["figures"]["good"]
    assert report["total"]["hit_rate"] > 0.7


def test_gpus_may_be_given_by_their_memory_for_a_model_of_known_speed(tmp_path: Path) -> None:
    own = yaml.safe_load((CATALOGUE / "mistral-small-3.2-24b-instruct-2506.yaml").read_text())
    own["speed"] = {
        "prefill_tokens_per_s": 20000,
        "step_ms": 10,
        "step_ms_per_context_token": 1e-5,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    result = plan(str(tmp_path / "own.yaml"), *BF16, "--gpu", "80")
    assert result.exit_code == 0, result.output
    assert "2 x 80 GiB" in result.output
    document = result.output[result.output.index("proxy_location:") :]
    (model,) = yaml.safe_load(document)["applications"][0]["args"]["models"]
    assert model["gpu"] == 80


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--itl-ms", "1"), "bandwidth: a decode step takes"),
        (("--ttft-s", "0.02"), "prefill: 1.00% of the prompts"),
        (("--gpu", "RTX-4090", *BF16, "--gpus-per-node", "1"), "memory: 44.7 GiB of weights"),
        (("--gpu", "L40S", "--variant", "fp8", *LONG), "a context of 131,072 does not fit"),
        (("--prompt-tokens", "300000"), "context: "),
        (("--gpu", "80"), "speed: it is unknown where GPUs are given by their memory"),
        (("--gpu", "0"), "the usable memory of a GPU in GiB is a number above 0 (got 0.0)"),
        (("--gpu", "H9000"), "unknown GPU type 'H9000'"),
        (("--variant", "fp4"), "has no variant 'fp4'"),
        (("mistral-large",), "unknown model 'mistral-large'"),
        (("--rate", "5", "--peak", "4"), "--peak is below the rate"),
        (("--trace", f"{__file__}.gz"), "test_plan.py.gz: No such file"),
        (("--trace", __file__), "is no trace that is known"),
    ],
)
def test_what_cannot_be_done_is_said(args: tuple[str, ...], said: str) -> None:
    result = plan(*args)
    assert result.exit_code != 0
    assert said in result.output
