from typing import Any, get_args, get_type_hints, is_typeddict

import pytest
from anthropic.types.beta import BetaContentBlockParam

from tests.mistral.test_options import MESSAGES, normalised
from tests.mistral.tokenizers import VERSIONS, prompt
from tests.requests.test_messages import CALL, USER, chat, result, text

SAID = {"type": "text", "text": "It is out."}


def used(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": "srv_1", "name": name, "input": {}, **fields}


def came(name: str, content: Any) -> dict[str, Any]:
    return {"type": f"{name}_tool_result", "tool_use_id": "srv_1", "content": content}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


PAGE = {"type": "text", "media_type": "text/plain", "data": "A page."}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "AA=="}
MCP = {"type": "mcp_tool_use", "id": "srv_1", "name": "g", "server_name": "s", "input": {"a": 1}}


def fetched(source: dict[str, Any]) -> dict[str, Any]:
    document = {"type": "document", "source": source, "title": "Title"}
    return came("web_fetch", {"type": "web_fetch_result", "url": "https://a", "content": document})


DROPPED = [
    (used("web_search"), came("web_search", [])),
    (used("web_search"), came("web_search", {"error_code": "unavailable"})),
    (used("web_fetch"), fetched(PDF)),
    (used("code_execution"), came("code_execution", {"stdout": "1"})),
    (used("bash_code_execution"), came("bash_code_execution", {"stdout": "1"})),
    (used("text_editor_code_execution"), came("text_editor_code_execution", {})),
    (used("tool_search_tool_regex"), came("tool_search", {"tool_references": []})),
    (used("advisor"), came("advisor", {"text": "x"})),
    (used("web_fetch"),),
    (MCP,),
    (came("mcp", "x"),),
    ({"type": "compaction", "content": None},),
    ({"type": "fallback", "from": {}, "to": {}},),
    ({"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": []},),
    ({"type": "container_upload", "file_id": "f"},),
]


@pytest.mark.parametrize("blocks", DROPPED)
def test_what_only_anthropic_can_use_is_dropped_and_its_answer_stays(blocks: Any) -> None:
    body, done = normalised(MESSAGES, messages=[USER, assistant(*blocks, SAID), USER])
    assert body["messages"] == [USER, assistant(SAID), USER]
    assert len(done.warnings) == 1 and done.changed
    body, done = normalised(MESSAGES, messages=[USER, assistant(*blocks), USER])
    assert body["messages"] == [USER, USER]


@pytest.mark.parametrize("block", [used("x"), {"type": "x"}, {"type": ["x"]}, {}, "text", 5])
def test_no_other_block_is_dropped(block: Any) -> None:
    body, done = normalised(MESSAGES, messages=[USER, assistant(block), USER])
    assert body["messages"][1]["content"] == [block] and not done.warnings


def test_every_block_of_anthropics_answers_is_known() -> None:
    known = {block["type"] for blocks in DROPPED for block in blocks}
    known |= {"text", "image", "document", "search_result", "tool_use", "tool_result"}
    known |= {"thinking", "redacted_thinking"}
    asking = {"tool_addition", "tool_removal"}
    blocks = [one for one in get_args(BetaContentBlockParam) if is_typeddict(one)]
    kinds = {get_args(get_type_hints(block)["type"])[0] for block in blocks}
    assert kinds - asking <= known


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("use", "content", "shown"),
    [
        (used("web_fetch"), fetched(PAGE), "Title\nA page."),
        (used("web_fetch"), came("web_fetch", {"error_code": "url_not_accessible"}), "url_not_a"),
        (MCP, came("mcp", "Found."), "Found."),
        (MCP, came("mcp", [text("One."), text("Two.")]), "One.\nTwo."),
        (MCP, {"type": "mcp_tool_result", "tool_use_id": "srv_1"}, ""),
    ],
)
def test_results_that_can_be_read_stay(version: str, use: Any, content: Any, shown: str) -> None:
    turn = assistant(text("Let me see."), use, content, SAID)
    _, call, answer, said, _ = made = chat(messages=[USER, turn, USER]).messages
    assert call["content"] == "Let me see."
    (called,) = call["tool_calls"]
    assert called["function"]["name"] == use["name"]
    assert answer["role"] == "tool" and answer["tool_call_id"] == called["id"]
    assert answer["content"].startswith(shown)
    assert said == {"role": "assistant", "content": SAID["text"]}
    assert prompt(version, {"messages": made}) is not None


def test_calls_that_the_client_answers_come_last() -> None:
    hosted = [MCP, came("mcp", "One.")]
    turn = assistant(CALL, *hosted, SAID)
    answered = {"role": "user", "content": [result("Two.")]}
    made = chat(messages=[USER, turn, answered]).messages
    _, call, first, own, second = made
    assert (first["content"], second["content"]) == ("One.", "Two.")
    assert own["content"] == SAID["text"] and len(own["tool_calls"]) == len(call["tool_calls"]) == 1
    assert second["tool_call_id"] == own["tool_calls"][0]["id"]
    made = chat(messages=[USER, assistant(CALL, *hosted), answered]).messages
    assert [message["role"] for message in made[1:]] == ["assistant", "tool"] * 2
    assert chat(messages=[USER, assistant(*hosted)]).messages[-1]["content"] == "One."


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_summary_stands_for_what_it_summarises(role: str) -> None:
    compacted: dict[str, Any] = {
        "role": role,
        "content": [text("Old."), {"type": "compaction", "content": "Sum."}],
    }
    summary = {"role": "user", "content": "Sum."}
    before = [USER, assistant({"type": "compaction", "content": "Older."}), USER]
    assert chat(messages=[*before, compacted, USER]).messages == [summary, USER]
    compacted["content"].append(SAID)
    made = chat(messages=[*before, compacted, USER]).messages
    assert made == [summary, {"role": role, "content": SAID["text"]}, USER]
