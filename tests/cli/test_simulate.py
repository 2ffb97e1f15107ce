import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli import app

SHORT = ("--seconds", "60", "--rate", "5", "--replicas", "2")
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1300, "output_length": 50, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 9000, "input_length": 512, "output_length": 10, "hash_ids": [0]}\n'
)


def simulate(*args: str) -> Result:
    """Runs the command, whose output is a pipe."""
    return CliRunner().invoke(app, ["simulate", *args])


def test_a_load_is_simulated_and_reported() -> None:
    result = simulate(*SHORT)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "replicas 2.0 on average, 2 at most" in lines
    assert "refused 0 (0.00%)" in lines
    assert any(line.startswith("good 100.00%") for line in lines)
    assert any("2 x H100-80GB" in line for line in lines)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    files = []
    for number, seed in enumerate(("7", "7", "8")):
        paths = tmp_path / f"{number}.json", tmp_path / f"{number}.html"
        args = (*SHORT, "--seed", seed, "--json", str(paths[0]), "--html", str(paths[1]))
        assert simulate(*args, "--routers", "2").exit_code == 0
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    assert files[0] != files[2]
    assert json.loads(files[0][0])["total"]["requests"] > 200


def test_replicas_are_scaled_between_the_least_and_the_most(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    args = ("--form", "step", "--rate", "0.5", "--peak", "10", "--seconds", "240")
    lengths = ("--load", "sessions", "--turns", "1", "--question-tokens", "4000")
    scaled = ("--replicas", "1", "--max-replicas", "3", "--startup-s", "20")
    assert simulate(*args, *lengths, *scaled, "--json", str(out)).exit_code == 0
    report = json.loads(out.read_text())
    assert report["replicas_first"] == 1
    assert 1 < report["replicas_most"] <= 3
    assert report["started"] > 0


@pytest.mark.parametrize("load", ["shared", "sessions"])
def test_every_load_can_be_bounded(load: str) -> None:
    result = simulate("--load", load, "--requests", "10", "--turns", "1", *SHORT)
    assert "requests 10 in" in " ".join(result.output.split())


def test_a_trace_is_played_at_another_rate_and_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(MOONCAKE)
    result = simulate("--trace", str(trace), "--repeat", "10", "--speed", "2", "--rate", "2")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "2 requests in 9 s, 2 times as fast, 10 times, at 2 requests/s" in text
    requests = int(text.split("seed 0 requests ")[1].split()[0])
    assert 80 < requests < 120


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--trace", f"{__file__}.gz"), "test_simulate.py.gz: No such file"),
        (("--trace", __file__), "is no trace that is known"),
        (("--trace", __file__, "--turns", "3"), "--turns is for loads without --trace"),
        (("--repeat", "3"), "--repeat is for a --trace"),
        (("--rate", "0"), "no request comes"),
        (("--form", "day"), "--form day needs --peak"),
        (("--replicas", "5", "--max-replicas", "4"), "--max-replicas is below --replicas"),
        (("--replicas", "0"), "--replicas 0 needs --max-replicas"),
        (("mistral-large",), "unknown model 'mistral-large'"),
        (("--variant", "fp4"), "has no variant 'fp4'"),
        (("tiny-mistral-small-3.2",), "cannot be simulated"),
        ((*SHORT, "--json", f"{__file__}/out.json"), "out.json: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_said(args: tuple[str, ...], said: str) -> None:
    result = simulate(*args)
    assert result.exit_code == 1
    assert said in result.output
