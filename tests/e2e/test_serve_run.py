"""Ray's own command starts the application from the same config, here with two models, and each
keeps what its documents promise.
"""

from collections.abc import Iterator

import httpx
import pytest

from serving import catalogue
from serving.tiny import PRESETS, ensure_tiny_model
from tests.e2e import test_conformance
from tests.e2e.conformance import assert_every_check_passes
from tests.e2e.service import running_by_ray, write_models_config
from tests.support.ports import free_port

MODELS = [
    name
    for name in catalogue.names()
    if catalogue.load(name).embedded and name != test_conformance.NAME
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service of the other embedded models, one replica of each."""
    # On a busy machine to train them takes longer than a service may take to start.
    for spec in PRESETS.values():
        ensure_tiny_model(spec)
    path = tmp_path_factory.mktemp("serve-run") / "models.yaml"
    with running_by_ray(write_models_config(path, free_port(), MODELS)) as url:
        yield url


def test_serve_run_serves_the_models_of_the_config(url: str) -> None:
    served = [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]
    assert served == [catalogue.load(name).id for name in MODELS] and len(served) == 2


@pytest.mark.parametrize("name", MODELS)
def test_every_check_passes(url: str, name: str) -> None:
    assert_every_check_passes(url, name)
