import json
import re
from typing import Any

import pytest

from serving.mistral.rules import InvalidRequest
from serving.requests import messages
from serving.requests.request import Chat, OutputForm
from tests.mistral.tokenizers import VERSIONS, prompt
from tests.support.reading import READING

USER = {"role": "user", "content": "Hello"}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
PIXEL_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CALL = {"type": "tool_use", "id": "abcdefghi", "name": "f", "input": {"a": "é"}}
TOOL = {"name": "f", "description": "Does.", "input_schema": {"properties": {}}}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def result(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "abcdefghi", "content": content, **more}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], "max_tokens": 5, **fields}).encode()


def chat(**fields: Any) -> Chat:
    request, _ = messages.read(body(**fields), *READING)
    assert isinstance(request.prompt, Chat)
    model, counted, _ = messages.read_count(body(**fields), *READING)
    assert (model, counted) == (request.model, request.prompt)
    return request.prompt


def turns(*more: Any) -> list[Any]:
    return chat(messages=[USER, *more]).messages[1:]


def user(*blocks: Any) -> list[Any]:
    return turns({"role": "user", "content": list(blocks)})


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        messages.read(body(**fields), *READING)
    return error.value


def test_a_system_prompt_of_blocks_is_joined() -> None:
    system = [text("x-anthropic-billing-header: cch=1;"), text("One."), text("Two.")]
    assert chat(system=system).messages == [{"role": "system", "content": "One.\n\nTwo."}, USER]
    assert chat(system="One.").messages == [{"role": "system", "content": "One."}, USER]
    assert chat(system="").messages == [USER]


def test_system_messages_before_all_turns_join_the_system_prompt() -> None:
    first = {"role": "system", "content": [text("Two.")]}
    messages = chat(system="One.", messages=[first, USER]).messages
    assert messages == [{"role": "system", "content": "One.\n\nTwo."}, USER]


@pytest.mark.parametrize("version", VERSIONS)
def test_later_system_messages_are_the_users_where_they_stand(version: str) -> None:
    late = {"role": "system", "content": [text("Two."), text("Three.")]}
    as_user = [{"role": "user", "content": one} for one in ("Two.", "Three.")]
    answer = {"role": "assistant", "content": [CALL]}
    turns = [USER, late, answer, {"role": "user", "content": [result("x")]}, late]
    messages = chat(system="One.", messages=turns).messages
    assert messages[0] == {"role": "system", "content": "One."}
    assert messages[1:4] == [USER, *as_user] and messages[-2:] == as_user
    assert prompt(version, {"messages": messages}) is not None
    before = chat(system="One.", messages=turns[:4]).messages
    assert messages[: len(before)] == before, "the prefix stays"


def test_blocks_of_a_user() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}
    document = {"type": "document", "source": {"type": "text", "data": "Doc."}}
    (message,) = user(text("See"), text(""), PIXEL, url, document)
    assert message["content"] == [
        text("See"),
        PIXEL_PART,
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        text("Doc."),
    ]
    assert user(text("Hi")) == [{"role": "user", "content": "Hi"}]
    assert user() == []


def test_documents_and_search_results_are_text_under_their_titles() -> None:
    parts = [text("One."), PIXEL, text("Two."), text("Three.")]
    document = {"type": "document", "title": "T", "context": "C", "citations": {"enabled": True}}
    of_text = document | {"source": {"type": "text", "media_type": "text/plain", "data": "Doc."}}
    of_string = document | {"source": {"type": "content", "content": "Doc."}}
    of_parts = document | {"source": {"type": "content", "content": parts}}
    found = {"type": "search_result", "source": "https://a", "title": "T", "content": [text("S.")]}
    assert user(of_text) == user(of_string) == [{"role": "user", "content": "T\nC\nDoc."}]
    (message,) = user(of_parts)
    assert message["content"] == [text("T\nC\nOne."), PIXEL_PART, text("Two.\nThree.")]
    assert user(found) == [{"role": "user", "content": "T\nhttps://a\nS."}]
    empty = {"type": "document", "source": {"type": "text", "data": ""}}
    assert user(empty) == []
    answer = {"role": "assistant", "content": [CALL]}
    *_, last = turns(answer, {"role": "user", "content": [result([found])]})
    assert last == {"role": "tool", "tool_call_id": "abcdefghi", "content": "T\nhttps://a\nS."}


def test_a_result_that_refers_to_a_tool_names_it() -> None:
    answer = {"role": "assistant", "content": [CALL]}
    found = result([{"type": "tool_reference", "tool_name": "g"}])
    *_, last = turns(answer, {"role": "user", "content": [found]})
    assert last == {"role": "tool", "tool_call_id": "abcdefghi", "content": "g"}


def test_calls_and_their_results() -> None:
    answer = {"role": "assistant", "content": [text("Let me see."), CALL]}
    second = {**CALL, "id": "second000"}
    results = [
        text("Go on"),
        result([text("one"), PIXEL, text("two")], is_error=True),
        {"type": "tool_result", "tool_use_id": "second000"},
    ]
    answer["content"] = [text("Let me see."), CALL, second]
    converted = turns(answer, {"role": "user", "content": results})
    function = {"name": "f", "arguments": '{"a": "é"}'}
    assert converted == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "abcdefghi", "type": "function", "function": function},
                {"id": "second000", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "second000", "content": ""},
        {"role": "user", "content": [PIXEL_PART, text("Go on")]},
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tokenizers_accept_what_was_converted(version: str) -> None:
    converted = chat(
        system="Be brief.",
        tools=[TOOL],
        messages=[
            USER,
            {"role": "assistant", "content": [text("a"), text("b"), CALL]},
            {"role": "user", "content": [result("five"), text("and?")]},
        ],
    )
    whole = {"messages": converted.messages, "tools": converted.tools}
    rendered = prompt(version, whole)
    assert rendered is not None and "five" in rendered and rendered.index("and?") > 0


def test_thinking_is_dropped() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    kept = {"role": "assistant", "content": [thinking, hidden, text("Hi")]}
    assert turns(kept, USER) == [{"role": "assistant", "content": "Hi"}, USER]
    assert turns({"role": "assistant", "content": [thinking]}, USER) == [USER]


def test_a_last_assistant_message_is_continued() -> None:
    assert not chat().continue_final_message
    assert chat(messages=[USER, {"role": "assistant", "content": "{"}]).continue_final_message
    assert not chat(messages=[USER, {"role": "assistant", "content": ""}]).continue_final_message


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "search_result"}]},
        {"role": "user", "content": [{"type": "search_result", "content": ["x"]}]},
        {"role": "user", "content": [{"type": "search_result", "content": [CALL]}]},
        {"role": "user", "content": [{"type": "document", "source": {"type": "content"}}]},
        {"role": "user", "content": [CALL]},
        {"role": "user", "content": [result([CALL])]},
        {"role": "user", "content": [result(5)]},
        {"role": "user", "content": [result(["five"])]},
        {"role": "user", "content": [{"type": "tool_result", "content": "x"}]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]},
        {"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]},
        {"role": "assistant", "content": [PIXEL]},
        {"role": "assistant", "content": [CALL]},
        {"role": "assistant", "content": [{**CALL, "input": [1]}]},
        {"role": "system", "content": [PIXEL]},
        {"role": "tool", "content": "x"},
    ],
)
def test_other_content_is_refused(message: Any) -> None:
    assert refused(messages=[USER, message]).param == "messages"


@pytest.mark.parametrize("role", ["user", "system"])
@pytest.mark.parametrize("kind", ["tool_addition", "tool_removal", "container_upload"])
def test_a_block_that_is_refused_is_named(role: str, kind: str) -> None:
    turn = {"role": role, "content": [text("One."), {"type": kind}]}
    refusal = re.escape(f'messages[1].content[1] has the type "{kind}", which is not supported')
    with pytest.raises(InvalidRequest, match=refusal):
        chat(messages=[USER, turn])


def test_tools_and_choices() -> None:
    read = chat(tools=[TOOL, {**TOOL, "name": "g", "strict": True}])
    parameters = {"type": "object", "properties": {}}
    function = {"name": "f", "description": "Does.", "parameters": parameters}
    assert read.tools == [
        {"type": "function", "function": function},
        {"type": "function", "function": {**function, "name": "g", "strict": True}},
    ]

    def tools(**choice: Any) -> tuple[list[str], str, bool]:
        fields = {"tool_choice": choice} if choice else {}
        both = [TOOL, {**TOOL, "name": "g"}]
        found = messages.read(body(tools=both, **fields), *READING)[0].tools
        return [tool.name for tool in found.callable], found.choice, found.parallel

    assert tools() == (["f", "g"], "auto", True)
    assert tools(type="auto", disable_parallel_tool_use=True) == (["f", "g"], "auto", False)
    assert tools(type="any") == (["f", "g"], "required", True)
    assert tools(type="tool", name="g") == (["g"], "required", True)
    assert tools(type="none") == ([], "auto", True)
    assert refused(tools=[TOOL], tool_choice={"type": "tool", "name": "x"}).param == "tool_choice"
    assert refused(tools=[TOOL], tool_choice={"type": "tool"}).param == "tool_choice"


def test_parameters() -> None:
    schema = {"type": "object"}
    request, _ = messages.read(
        body(
            temperature=0.5,
            top_p=0.9,
            top_k=3,
            stop_sequences=["a", "b"],
            output_config={"format": {"type": "json_schema", "schema": schema}},
            stream=True,
            cache_salt="salt",
            vllm_xargs={"x": 1},
            metadata={"user_id": "u"},
        ),
        *READING,
    )
    assert (request.model, request.max_tokens, request.stream) == ("m", 5, True)
    assert request.stop == ["a", "b"]
    assert request.form == OutputForm("output_config.format", schema)
    assert request.cache_salt == "salt"
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 3)
    assert sampling.vllm_xargs == {"x": 1}


def test_max_tokens_is_required_except_to_count() -> None:
    assert refused(max_tokens=0).param == "max_tokens"
    without = json.dumps({"messages": [USER]}).encode()
    with pytest.raises(InvalidRequest, match="max_tokens"):
        messages.read(without, *READING)
    assert messages.read_count(without, *READING)[1].messages == [USER]


def test_fields_that_do_not_hold() -> None:
    assert refused(stop_sequences=[""]).param == "stop_sequences"
    assert refused(cache_salt="a/b").param == "cache_salt"
    assert refused(output_config={"format": {"type": "text"}}).param == "output_config"
