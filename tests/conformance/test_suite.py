"""The suite as a whole: names, docstrings, requests, and the models to which checks apply."""

import base64
import io
import json

import pytest
from PIL import Image

from serving import catalogue
from serving.conformance.cases import CASES, body_of
from serving.conformance.check import Check
from serving.conformance.model import FAMILIES, UnknownFamily, family_of
from serving.conformance.pictures import COLOURS, picture
from serving.conformance.suite import CHECKS
from serving.tiny import PRESETS
from tests.conformance.stand_in import always, completion, model, server


def applies(check: Check, family: str, tiny: bool = True) -> bool:
    one = server(always(completion("x")), family, tiny)
    return not any(need(one) for need in check.needs)


def test_names_are_unique_and_each_check_says_what_it_means() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert all(check.meaning.endswith(".") for check in CHECKS)
    assert all(check.theme and check.limit_s > 0 for check in CHECKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_most_checks_apply_to_each_family(family: str) -> None:
    applying = [check for check in CHECKS if applies(check, family)]
    assert len(applying) > 80
    themes = {check.theme for check in applying}
    assert ("vision" in themes) or not FAMILIES[family].vision


def test_every_check_applies_to_some_embedded_model_or_says_why_not() -> None:
    left = {c.name for c in CHECKS if not any(applies(c, family) for family in FAMILIES)}
    assert left == {
        "a wrong key gets a 401 and health needs none",  # with --api-key-env
        "the cards image is fetched",  # from the public web
        "tokenize gives the ids of mistral common",  # with --tokenizer
        "a prompt is as long as mistral common says",
    }


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_requests_are_json_and_bounded(family: str, tiny: bool) -> None:
    for case in CASES:
        body = body_of(case, model(family, tiny))
        assert json.loads(json.dumps(body)) == body
        assert body["max_tokens"] > 0 and body["messages"]


def test_no_embedded_models_request_needs_the_web() -> None:
    for family in FAMILIES:
        text = json.dumps([body_of(case, model(family)) for case in CASES])
        assert "http://" not in text and "https://" not in text


@pytest.mark.parametrize(
    ("model_id", "family"),
    [
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "3.2"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "2501"),
        ("stelterlab/Mistral-Small-24B-Instruct-2501-AWQ", "2501"),
        ("mistralai/Magistral-Small-2506", "magistral"),
    ],
)
def test_a_models_name_tells_its_family(model_id: str, family: str) -> None:
    assert family_of(model_id) == FAMILIES[family]


def test_the_families_are_those_of_the_embedded_models() -> None:
    assert set(FAMILIES) == set(PRESETS)
    for name in catalogue.names():
        entry = catalogue.load(name)
        if entry.embedded:
            assert family_of(entry.id).name == entry.embedded


def test_another_name_tells_nothing() -> None:
    with pytest.raises(UnknownFamily):
        family_of("llama")


@pytest.mark.parametrize("colour", COLOURS)
def test_pictures_are_pngs_of_one_colour(colour: str) -> None:
    url = picture(COLOURS[colour], 40, 30)
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert image.size == (40, 30)
    assert image.getcolors() == [(1200, COLOURS[colour])]
