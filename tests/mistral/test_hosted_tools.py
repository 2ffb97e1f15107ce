import pytest

from tests.mistral.test_options import MESSAGES, RESPONSES, normalised
from tests.mistral.test_refusals import FUNCTION, refused

OWN = {RESPONSES: {"type": "function", **FUNCTION}, MESSAGES: {"name": "f", "input_schema": {}}}
OFFERED = [
    (RESPONSES, "web_search", "web_search"),
    (RESPONSES, "web_search_preview_2025_03_11", "web_search"),
    (RESPONSES, "image_generation", "image_generation"),
    (RESPONSES, "tool_search", "tool_search"),
    (MESSAGES, "web_search_20250305", "web_search"),
    (MESSAGES, "web_fetch_20250910", "web_fetch"),
    (MESSAGES, "tool_search_tool_regex_20251119", "tool_search_tool"),
]


@pytest.mark.parametrize(("endpoint", "kind", "name"), OFFERED)
def test_what_agents_offer_beside_their_own_tools_is_left_out(
    endpoint: str, kind: str, name: str
) -> None:
    hosted = {"type": kind, "name": name}
    body, done = normalised(endpoint, tools=[hosted, OWN[endpoint], hosted])
    assert body["tools"] == [OWN[endpoint]]
    assert done.warnings == (f"{name} was left out of tools: this service does not run it",)


@pytest.mark.parametrize(("endpoint", "kind", "_name"), OFFERED)
def test_it_is_refused_where_it_is_what_the_client_wants(
    endpoint: str, kind: str, _name: str
) -> None:
    hosted = {"type": kind, "name": "x"}
    error = refused(endpoint, tools=[hosted])
    assert error.param == "tools" and kind in error.message
    choice = {"type": "tool", "name": "x"} if endpoint == MESSAGES else hosted
    error = refused(endpoint, tools=[hosted, OWN[endpoint]], tool_choice=choice)
    assert error.param == "tool_choice"


@pytest.mark.parametrize(
    ("endpoint", "kind", "_name"), [one for one in OFFERED if one[0] == RESPONSES]
)
def test_it_is_left_out_of_the_allowed_tools_too(endpoint: str, kind: str, _name: str) -> None:
    hosted = {"type": kind}
    choice = {"type": "allowed_tools", "mode": "required"}
    body, _ = normalised(
        endpoint,
        tools=[hosted, OWN[endpoint]],
        tool_choice={**choice, "tools": [hosted, {"type": "function", "name": "f"}]},
    )
    assert body == {"tools": [OWN[endpoint]], "tool_choice": "required"}
    for tools in ([hosted], [{"type": "mcp"}, {"type": "function", "name": "f"}]):
        error = refused(
            endpoint, tools=[hosted, OWN[endpoint]], tool_choice={**choice, "tools": tools}
        )
        assert error.param == "tool_choice"


def test_other_tools_stay_as_they_are() -> None:
    tools = [OWN[RESPONSES], {"type": "custom", "name": "web_search"}]
    body, done = normalised(RESPONSES, tools=tools)
    assert body["tools"] == tools and not done.changed
    assert refused(RESPONSES, tools=[*tools, {"type": "web_searcher"}]).param == "tools"
