"""Tests of `mistral-serve simulate`, by scenario files and overrides."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli.commands import app

SHORT = ("load.duration_s=60", "load.rate_per_s=5", "fleet.replicas=2")
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1300, "output_length": 50, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 9000, "input_length": 512, "output_length": 10, "hash_ids": [0]}\n'
)
STEP = """
fleet: {startup_s: 20}
load:
  kind: sessions
  turns: 1
  question_tokens: 4000
  form: step
  rate_per_s: 0.5
  peak_per_s: 10
  duration_s: 240
scaling: {max_replicas: 3}
"""


def simulate(*args: str) -> Result:
    """Runs the command with its output in a pipe."""
    return CliRunner().invoke(app, ["simulate", *args])


def setting(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def test_a_load_is_simulated_and_reported() -> None:
    result = simulate(*setting(*SHORT))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "replicas 2.0 on average, 2 at most" in lines
    assert "refused 0 (0.00%)" in lines
    assert any(line.startswith("good 100.00%") for line in lines)
    assert any("2 x H100-80GB" in line for line in lines)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    files = []
    for number, seed in enumerate((7, 7, 8)):
        paths = tmp_path / f"{number}.json", tmp_path / f"{number}.html"
        overrides = setting(*SHORT, "fleet.routers=2", f"seed={seed}")
        args = (*overrides, "--json", str(paths[0]), "--html", str(paths[1]))
        assert simulate(*args).exit_code == 0
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    assert files[0] != files[2]
    assert json.loads(files[0][0])["total"]["requests"] > 200


def test_replicas_are_scaled_between_the_least_and_the_most(tmp_path: Path) -> None:
    scenario, out = tmp_path / "step.yaml", tmp_path / "out.json"
    scenario.write_text(STEP)
    assert simulate(str(scenario), "--json", str(out)).exit_code == 0
    report = json.loads(out.read_text())
    assert report["replicas_first"] == 1
    assert 1 < report["replicas_most"] <= 3
    assert report["started"] > 0


@pytest.mark.parametrize("kind", ["shared", "sessions"])
def test_every_load_can_be_bounded(kind: str) -> None:
    overrides = (f"load.kind={kind}", "load.max_requests=10", "load.turns=1", *SHORT)
    assert "requests 10 in" in " ".join(simulate(*setting(*overrides)).output.split())


def test_a_trace_beside_the_scenario_is_played_at_another_rate_and_again(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text(MOONCAKE)
    scenario = tmp_path / "replay.yaml"
    scenario.write_text("load: {trace: trace.jsonl, repeat: 10, speed: 2}")
    result = simulate(str(scenario), *setting("load.rate_per_s=2"))
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "2 requests in 9 s, 2 times as fast, 10 times, at 2 requests/s" in text
    requests = int(text.split("seed 0 requests ")[1].split()[0])
    assert 80 < requests < 120


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([f"load.trace={__file__}.gz"], "load.trace: "),
        ([f"load.trace={__file__}.gz"], "test_simulate.py.gz: No such file"),
        ([f"load.trace={__file__}"], "is no trace that is known"),
        (["fleet.gpu=H100-80GB", "fleet.tensor_parallel_size=3"], "tensor_parallel_size: "),
        (["fleet.model=tiny-mistral-small-3.2"], "cannot be simulated"),
    ],
)
def test_what_cannot_be_simulated_is_said(overrides: list[str], said: str) -> None:
    result = simulate(*setting(*overrides))
    assert result.exit_code == 1
    assert said in result.output


def test_files_that_cannot_be_read_or_written_are_named() -> None:
    result = simulate(f"{__file__}/scenario.yaml")
    assert (result.exit_code, "scenario.yaml: Not a directory" in result.output) == (1, True)
    result = simulate(*setting(*SHORT), "--json", f"{__file__}/out.json")
    assert (result.exit_code, "out.json: Not a directory" in result.output) == (1, True)
