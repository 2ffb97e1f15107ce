from typing import Any

import pytest

from serving.mistral import InvalidRequest
from tests.mistral.test_options import CHAT, MESSAGES, RESPONSES, TOOL, normalised
from tests.mistral.tokenizers import rules, tokenizer

FLAT = [{"type": "function", "name": name} for name in ("f", "g", "h")]
NESTED = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_no_tools_and_a_choice_between_them(choice: dict[str, Any]) -> None:
    assert normalised(CHAT, tools=[], **choice)[0] == {}
    assert normalised(CHAT, tools=None, **choice)[0] == {}


def test_a_required_call_without_tools_is_left_to_the_engine() -> None:
    assert normalised(CHAT, tool_choice="required")[0] == {"tool_choice": "required"}


def test_mistrals_any_is_openais_required() -> None:
    assert normalised(CHAT, tools=[TOOL], tool_choice="any")[0]["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("endpoint", "choice"), [(CHAT, "none"), (RESPONSES, "none"), (MESSAGES, {"type": "none"})]
)
def test_no_call_is_kept_by_v7_only_without_tools(endpoint: str, choice: Any) -> None:
    tool = {"name": "f"} if endpoint == MESSAGES else TOOL
    body = {"tools": [tool], "tool_choice": choice}
    assert "tools" not in normalised(endpoint, rules("v7"), **body)[0]
    assert normalised(endpoint, rules("v11"), **body)[0] == body


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
@pytest.mark.parametrize("tools", [{"tools": [TOOL]}, {"tools": []}, {}])
def test_v7_cannot_begin_a_call_where_none_may_be_made(endpoint: str, tools: Any) -> None:
    calls = tokenizer("v7").instruct_tokenizer.tokenizer.get_special_token("[TOOL_CALLS]")
    model = rules("v7", other_server=True)
    body, _ = normalised(endpoint, model, **tools, tool_choice="none", logit_bias={"7": 1})
    assert body == {"logit_bias": {"7": 1, str(calls): -100}}


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_the_tools_are_reduced_to_the_allowed_ones(mode: str) -> None:
    allowed: dict[str, Any] = {"mode": mode, "tools": [FLAT[2], FLAT[0]]}
    body, done = normalised(
        RESPONSES, tools=list(FLAT), tool_choice={"type": "allowed_tools", **allowed}
    )
    assert body == {"tools": [FLAT[0], FLAT[2]], "tool_choice": mode}
    assert done.changed

    allowed = {"mode": mode, "tools": [NESTED[1]]}
    body, done = normalised(
        CHAT,
        tools=list(NESTED),
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    assert body == {"tools": [NESTED[1]], "tool_choice": mode}


SPACE = {"type": "namespace", "name": "ns", "tools": [*FLAT, {"type": "custom", "name": "d"}]}
OTHER = {**SPACE, "name": "other"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["d"], [{**SPACE, "tools": SPACE["tools"][3:]}, {**OTHER, "tools": SPACE["tools"][3:]}]),
        (["ns__d", "f"], [FLAT[0], {**SPACE, "tools": SPACE["tools"][3:]}]),
        (["f"], [FLAT[0]]),
        (["g"], [{**SPACE, "tools": [FLAT[1]]}, {**OTHER, "tools": [FLAT[1]]}]),
        (["other__f"], [{**OTHER, "tools": [FLAT[0]]}]),
        (["ns"], [SPACE]),
    ],
)
def test_tools_of_namespaces_can_be_allowed(names: list[str], expected: list[Any]) -> None:
    allowed = [{"type": "function", "name": name} for name in names]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    body, _ = normalised(RESPONSES, tools=[FLAT[0], SPACE, OTHER], tool_choice=choice)
    assert body == {"tools": expected, "tool_choice": "required"}


@pytest.mark.parametrize(
    "allowed",
    [
        {"mode": "auto", "tools": [{"type": "function", "name": "unknown"}]},
        {"mode": "auto", "tools": [{"type": "function", "name": ["f"]}]},
        {"mode": "auto", "tools": []},
        {"mode": "any", "tools": FLAT},
        {"tools": FLAT},
        {"mode": "auto"},
    ],
)
def test_allowed_tools_that_say_nothing_valid(allowed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        normalised(RESPONSES, tools=FLAT, tool_choice={"type": "allowed_tools", **allowed})
    assert raised.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        ({"type": "any"}, []),
        ({"type": "any"}, None),
        ({"type": "tool", "name": "f"}, []),
        ({"type": "tool", "name": "g"}, [{"name": "f", "input_schema": {}}]),
    ],
)
def test_a_choice_of_anthropics_that_no_tool_satisfies(choice: Any, tools: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        normalised(MESSAGES, tools=tools, tool_choice=choice)
    assert raised.value.param == "tool_choice"


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_anthropics_choice_between_no_tools(kind: str) -> None:
    choice = {"type": kind, "disable_parallel_tool_use": True}
    assert normalised(MESSAGES, tools=[], tool_choice=choice)[0] == {}
