import pytest

from tests.bench.placement import TRACES
from tests.bench.placement_validation import by_step_times, validate


def test_the_engine_is_within_a_tenth_of_a_measured_one() -> None:
    folder = TRACES / "llmservingsim"
    if not folder.exists():
        pytest.skip(f"no measured run at {folder}")
    validation = validate(folder, by_step_times())
    assert {figure for figure in validation.figures if abs(validation.error(figure)) > 0.1} == set()
