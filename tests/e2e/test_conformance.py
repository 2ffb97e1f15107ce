"""The conformance suite through the router: the whole service keeps what the models' documents
promise. tests/e2e/test_serve_run.py has the other embedded models."""

from tests.e2e.conformance import assert_every_check_passes
from tests.e2e.service import Service

NAME = "tiny-mistral-small-3.2"


def test_every_check_passes(service: Service) -> None:
    assert_every_check_passes(service.url, NAME)
