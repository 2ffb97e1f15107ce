"""Structural tags, in the field of either API."""

import json
from typing import Any

import llguidance
import pytest
from mistral_common.guidance.tokenizer import MistralLLGTokenizer

from serving.mistral import InvalidRequest
from serving.requests import chat
from tests.mistral.tokenizers import tokenizer
from tests.support.reading import READING

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORM: dict[str, Any] = {
    "structures": [
        {"begin": "<tool_call>", "schema": SCHEMA, "end": "</tool_call>"},
        {"begin": "<f=é😀>", "schema": SCHEMA, "end": "!"},
        {"begin": "<f=b>", "schema": {"type": "null"}, "end": ""},
    ],
    "triggers": ["<tool_call>", "<f=", "unused"],
}


def read(field: str, form: Any) -> str:
    """Returns the grammar of a chat's answer."""
    value = {"structural_tag": json.dumps(form)}
    if field == "response_format":
        value = {"type": "structural_tag", **form}
    body = {"messages": [{"role": "user", "content": "?"}], field: value}
    made = chat.read(json.dumps(body).encode(), *READING)[0].form
    assert made is not None and made.constraint is not None
    assert made.constraint.grammar is not None
    return made.constraint.grammar


FIELDS = pytest.mark.parametrize("field", ["response_format", "structured_outputs"])


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        ("", True),
        ("Hi\n<there> f=", True),
        ('Hi <tool_call>{"a": 1}</tool_call> and <f=é😀>{"a": 2}!', True),
        ("<f=b>null<f=b>null", True),
        ("<tool_call>Hi", False),
        ('<tool_call>{"b": 1}</tool_call>', False),
        ('<tool_call>{"a": 1}', False),
        ("<f=c>", False),
    ],
)
@FIELDS
def test_a_trigger_begins_a_tag_whose_json_obeys_its_schema(
    field: str, answer: str, allowed: bool
) -> None:
    words = MistralLLGTokenizer(tokenizer("v13").instruct_tokenizer.tokenizer)
    matcher = llguidance.LLMatcher(
        llguidance.LLTokenizer(llguidance.TokenizerWrapper(words)),
        llguidance.grammar_from("grammar", read(field, FORM)),
    )
    assert not matcher.is_error(), matcher.get_error()
    ids = words(answer)
    taken = matcher.try_consume_tokens(ids)
    assert (taken == len(ids) and matcher.is_accepting()) == allowed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"triggers": [""]}, "triggers"),
        ({"triggers": ["x"]}, "structures[0].begin"),
        ({"triggers": []}, "structures[0].begin"),
        ({"triggers": None}, "triggers"),
        ({"structures": []}, "structures"),
        ({"structures": [{"begin": 5, "schema": SCHEMA, "end": ""}]}, "structures[0].begin"),
        ({"structures": [{"begin": "<", "schema": "{}", "end": ""}]}, "structures[0].schema"),
        ({"structures": [{"begin": "<", "schema": {}}]}, "`end`"),
        ({"structures": [5]}, "structures[0]"),
    ],
)
@FIELDS
def test_what_is_no_structural_tag_is_refused(
    field: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(field, FORM | changes)
    assert raised.value.param == field
    assert field in raised.value.message and says in raised.value.message


def test_a_structural_tag_that_is_no_json_is_refused() -> None:
    body = {
        "messages": [{"role": "user", "content": "?"}],
        "structured_outputs": {"structural_tag": "{"},
    }
    with pytest.raises(InvalidRequest, match="structured_outputs"):
        chat.read(json.dumps(body).encode(), *READING)
