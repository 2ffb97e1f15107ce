"""Ray's own command starts the application from the same config, here with another embedded model,
which keeps what its documents promise.
"""

from collections.abc import Iterator

import httpx
import pytest

from serving import catalogue
from tests.e2e import test_conformance
from tests.e2e.conformance import assert_every_check_passes
from tests.e2e.languages import APIS, assert_languages_come_through
from tests.e2e.service import running_by_ray, write_models_config
from tests.support.ports import free_port

MODELS = ["tiny-magistral-small", pytest.param("tiny-mistral-small-2501", marks=pytest.mark.full)]
NAMES = {test_conformance.NAME, "tiny-magistral-small", "tiny-mistral-small-2501"}


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def url(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service of this model."""
    path = tmp_path_factory.mktemp("serve-run") / "model.yaml"
    with running_by_ray(write_models_config(path, free_port(), [name])) as url:
        yield url


def test_serve_run_serves_the_model_of_the_config(url: str, name: str) -> None:
    (model,) = httpx.get(f"{url}/v1/models", timeout=60).json()["data"]
    assert model["id"] == catalogue.load(name).id


def test_every_check_passes(url: str, name: str) -> None:
    assert_every_check_passes(url, name)


@pytest.mark.parametrize("api", APIS)
async def test_every_language_comes_through(url: str, name: str, api: str) -> None:
    await assert_languages_come_through(url, catalogue.load(name).id, api)


def test_each_embedded_model_is_held_to_its_documents() -> None:
    embedded = {name for name in catalogue.names() if catalogue.load(name).embedded}
    assert embedded == NAMES
