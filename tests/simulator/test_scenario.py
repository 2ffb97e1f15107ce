import re
from pathlib import Path

import pytest

from serving.scaling import ScalingConfig
from serving.simulator.load import LoadConfig
from serving.simulator.scenario import FleetConfig, Scenario, ScenarioError, SloConfig, read

README = Path(__file__).parents[2] / "serving/simulator/README.md"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_examples_in_the_readme_are_scenarios(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        read(written(tmp_path / "example.yaml", example))


def test_the_readme_has_every_field() -> None:
    for section in (FleetConfig, LoadConfig, SloConfig, ScalingConfig, Scenario):
        for field in section.model_fields:
            assert f"`{field}`" in README.read_text()


def test_without_a_file_it_is_the_default() -> None:
    assert read(None) == Scenario()
    assert read(None).settings() == {}


def test_overrides_go_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", "fleet: {replicas: 4, routers: 2}\nload: {rate_per_s: 20}")
    scenario = read(path, ["fleet.replicas=16", "load.kind=sessions", "seed=3"])
    assert (scenario.fleet.replicas, scenario.fleet.routers) == (16, 2)
    assert (scenario.load.rate_per_s, scenario.load.kind, scenario.seed) == (20, "sessions", 3)


def test_the_settings_make_the_same_scenario(tmp_path: Path) -> None:
    overrides = ["fleet.variant=fp8", "load.form=day", "load.peak_per_s=7.5", "slo.itl_ms=30.0"]
    scenario = read(None, overrides)
    assert scenario.overrides() == overrides
    assert Scenario.model_validate(scenario.settings()) == scenario


def test_paths_in_a_file_are_relative_to_it_and_in_overrides_to_the_working_directory(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "s.yaml", "load: {trace: a.jsonl}")
    assert read(path).load.trace == tmp_path / "a.jsonl"
    assert read(path, ["load.trace=b.jsonl"]).load.trace == Path("b.jsonl")


def test_scaling_takes_the_place_of_a_number_of_replicas() -> None:
    assert read(None).first_replicas == FleetConfig().replicas
    assert read(None, ["scaling.min_replicas=0", "scaling.max_replicas=3"]).first_replicas == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("slo: {ttft_s: 1, ttft_s: 2}", "not YAML: line 1: ttft_s stands twice, first in line 1"),
        ("- 1", "Input should be a mapping"),
        ("fleet: {replica: 2}", "fleet.replica: unknown field; allowed are: model, variant, gpu"),
        ("fleet: {replicas: 0}", "fleet.replicas: Input should be greater than or equal to 1"),
        ("fleet: {model: mistral-large}", "fleet.model: unknown model 'mistral-large'"),
        ("fleet: {variant: fp4}", "fleet.variant: mistral-small-3.2-24b-instruct-2506 has no"),
        ("fleet: {gpu: H9000}", "fleet.gpu: unknown GPU type 'H9000'"),
        ("fleet: {placement: random}", "fleet.placement: Input should be 'least_cost'"),
        ("load: {kind: burst}", "load.kind: Input should be 'shared' or 'sessions'"),
        ("load: {rate_per_s: 0}", "load.rate_per_s: must be above 0"),
        ("load: {form: day}", "load.peak_per_s: is required with form day"),
        ("load: {repeat: 3}", "load.repeat: applies only to a recorded load"),
        ("load: {trace: x, turns: 3}", "load.turns: applies only to a generated load"),
        ("slo: {ttft_s: fast}", "slo.ttft_s: Input should be a valid number"),
        ("scaling: {}", "scaling.max_replicas: Field required"),
        ("scaling: {min_replicas: 5, max_replicas: 4}", "scaling.min_replicas: allowed is at most"),
        (
            "{scaling: {max_replicas: 4}, fleet: {replicas: 2}}",
            "fleet.replicas: cannot be combined",
        ),
    ],
)
def test_a_mistake_is_told_by_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path / "s.yaml", text)
    with pytest.raises(ScenarioError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("replicas", "'replicas' is not FIELD=VALUE"),
        ("fleet.replicas=many", "fleet.replicas: Input should be a valid integer"),
        ("fleet.replica=3", "fleet.replica: unknown field"),
        ("seed.x=3", "seed.x: 'seed' has no fields"),
        ("load.trace.path=3", "load.trace: "),
    ],
)
def test_a_wrong_override_is_told_by_its_field(override: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(None, ["seed=1", override])
    assert str(caught.value).startswith(said)
