import pytest

from tests.bench.placement import TRACES
from tests.bench.simulator_validation import by_step_times, validate


def test_the_engine_is_as_near_to_a_measured_one_as_is_promised() -> None:
    folder = TRACES / "llmservingsim"
    if not folder.exists():
        pytest.skip(f"no measured run at {folder}")
    assert validate(folder, by_step_times()).missed() == []
