"""A replica's vLLM process is killed under every kind of stream: each goes on to the answer that it
would have been, and the strict SDK of its API reads it to its last event."""

from collections.abc import Iterator

import pytest

from tests.e2e.continued_engine import near
from tests.e2e.killed_kinds import CUTS, KilledKinds, kill_under_all_kinds, kinds, said
from tests.e2e.service import running, write_config
from tests.support.ports import free_port
from tests.support.strict_sdks import read

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=["tiny-mistral-small-3.2", "tiny-magistral-small"])
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KilledKinds]:
    config = tmp_path_factory.mktemp("service") / "local.yaml"
    write_config(config, free_port(), model=request.param, aliases=[])
    with running(config, model=f"mistral-serve/{request.param}") as service:
        yield kill_under_all_kinds(service)


def test_each_kind_is_cut_and_goes_on_to_the_same_answer(killed: KilledKinds) -> None:
    print(f"{killed.kills} kills, {len(killed.streams)} streams: {dict(killed.cuts)}")
    assert {kind for kind in kinds() if killed.cuts[kind] < CUTS} == set()
    expected = {kind: said(stream) for kind, stream in killed.undisturbed.items()}
    for stream in killed.streams:
        got, floats = said(stream)
        assert got == expected[stream.kind][0], stream.kind
        for path, values in floats.items():
            assert values == near(expected[stream.kind][1][path]), (stream.kind, path)


def test_the_strict_sdks_read_each_stream_to_its_end(killed: KilledKinds) -> None:
    for stream in killed.streams:
        read(stream.path, stream.raw)
