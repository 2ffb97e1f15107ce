"""Which alerts fire in which trouble, and that none fires without."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.dashboards import promtool, queries
from tests.dashboards.promql import with_values
from tests.dashboards.series import STEADY
from tests.dashboards.troubles import CASES, Case

pytestmark = promtool.NEEDED


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool prints for each case, by its trouble; it runs on all cores."""
    folders = [tmp_path_factory.mktemp("case") for _ in CASES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(difference, CASES, folders)
        return dict(zip([case.trouble for case in CASES], said, strict=True))


def difference(case: Case, folder: Path) -> str:
    samples = case.minutes // case.interval_minutes + 1
    series = {
        name: value.format(n=samples)
        for name, value in (STEADY | case.changed).items()
        if name not in case.missing
    }
    return promtool.firing(
        series, f"{case.minutes}m", f"{case.interval_minutes}m", folder, case.fires
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.trouble)
def test_the_alerts_that_fire(case: Case, differences: dict[str, str]) -> None:
    assert set(case.changed) <= set(STEADY)
    assert not differences[case.trouble], differences[case.trouble]


def test_each_alert_fires_in_a_case_and_is_silent_in_another() -> None:
    fired = {alert for case in CASES for alert in case.fires}
    rules = {f"{rule['alert']} {rule['labels']['severity']}" for rule in queries.alerts()}
    assert fired == rules


def test_each_query_parses(tmp_path: Path) -> None:
    texts = [with_values(query) for _, query in queries.everything()]
    result = promtool.check(texts, tmp_path)
    assert result.returncode == 0, result.stderr
