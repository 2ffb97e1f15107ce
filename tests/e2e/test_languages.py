"""The languages of the model cards, through the whole service; `test_serve_run` has those of the
other tokenizer versions."""

import pytest

from tests.e2e.languages import APIS, assert_languages_come_through
from tests.e2e.service import MODEL, Service


@pytest.mark.parametrize("api", APIS)
async def test_every_language_comes_through(service: Service, api: str) -> None:
    await assert_languages_come_through(service.url, MODEL, api)
