import datetime
from typing import Any

import pytest

from serving.mistral import InvalidRequest, Normalised, normalise
from serving.mistral.turns import CONTINUED_WARNING, LAST_SYSTEM_WARNING, LATE_SYSTEM_WARNING
from tests.mistral.tokenizers import rules

TODAY = datetime.date(2026, 3, 1)
USER = {"role": "user", "content": "Hello"}
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
}
CALL = {"type": "function_call", "call_id": "abcdefghi", "name": "f", "arguments": "{}"}


def normalised(*items: dict[str, Any]) -> tuple[Any, Normalised]:
    body = {"input": list(items)}
    done = normalise("/v1/responses", body, rules(), TODAY)
    return body["input"], done


def output(value: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "abcdefghi", "output": value}


@pytest.mark.parametrize(
    "items", [[USER], [USER, ANSWER, USER], [USER, CALL, output("42")], [{"role": "system"}, USER]]
)
def test_what_vllm_takes_stays(items: list[dict[str, Any]]) -> None:
    given = [dict(item) for item in items]
    kept, done = normalised(*given)
    assert (kept, done.changed) == (items, False)


def test_a_string_stays() -> None:
    body = {"input": "Hello"}
    assert not normalise("/v1/responses", body, rules(), TODAY).changed


def test_texts_in_parts_become_one_text() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    kept, _ = normalised({"type": "message", "role": "user", "content": parts})
    assert kept[0]["content"] == "a\n\nb"
    assert normalised(USER, CALL, output(parts))[0][2]["output"] == "a\n\nb"


def test_an_answer_of_several_texts_keeps_them_all() -> None:
    text = {"type": "output_text", "text": "a", "annotations": []}
    refusal = {"type": "refusal", "refusal": "b"}
    kept, _ = normalised(USER, {**ANSWER, "content": [text, refusal]}, USER)
    assert kept[1]["content"] == "a\n\nb"


def test_arguments_that_are_an_object_become_their_text() -> None:
    kept, _ = normalised(USER, {**CALL, "arguments": {"city": "Zürich"}}, output("42"))
    assert kept[1]["arguments"] == '{"city": "Zürich"}'


@pytest.mark.parametrize("result", [output(None), {"type": "function_call_output"}])
def test_a_result_without_output_is_an_empty_one(result: dict[str, Any]) -> None:
    assert normalised(USER, CALL, result)[0][2] == {**result, "output": ""}


def test_roles() -> None:
    late = {"role": "developer", "content": "late"}
    kept, done = normalised({"role": "developer", "content": "first"}, USER, CALL, late, output(""))
    system = [{"role": "system", "content": text} for text in ("first", "late")]
    assert kept == [*system, USER, CALL, output("")]
    assert done.warnings == (LATE_SYSTEM_WARNING,)


@pytest.mark.parametrize("content", [[], "", [{"type": "output_text", "text": ""}]])
def test_reasoning_and_empty_answers_are_dropped(content: Any) -> None:
    reasoning = {"type": "reasoning", "summary": [], "content": []}
    kept, done = normalised(
        USER, reasoning, {"type": "message", "role": "assistant", "content": content}, USER
    )
    assert (kept, done.changed) == ([USER, USER], True)


def test_an_image_keeps_its_place_among_the_texts() -> None:
    image = {"type": "input_image", "image_url": "https://example.com/cat.png"}
    text = {"type": "input_text", "text": "?"}
    user = {"role": "user", "content": [text, image, text]}
    result = output([image, text])
    assert normalised(user, CALL, result)[0] == [user, CALL, result]


@pytest.mark.parametrize(
    ("limit", "message"), [(1, "At most 1 images .* has 2"), (0, "text model")]
)
def test_images_of_messages_and_results_are_counted(limit: int, message: str) -> None:
    image = {"type": "input_image", "image_url": "https://example.com/cat.png"}
    items = [{"role": "user", "content": [image]}, CALL, output([image])]
    with pytest.raises(InvalidRequest, match=message) as raised:
        normalise("/v1/responses", {"input": items}, rules(image_limit=limit), TODAY)
    assert raised.value.param == "input"


@pytest.mark.parametrize(
    "junk", [{"content": [5]}, {"content": [{"type": "input_file"}]}, {"content": 5}, {}]
)
def test_what_is_no_text_is_left_to_the_engine(junk: dict[str, Any]) -> None:
    kept, done = normalised({"role": "user", **junk})
    assert (kept, done.changed) == ([{"role": "user", **junk}], False)


def test_a_last_message_of_the_assistants_without_a_status_is_said_to_be_continued() -> None:
    begun = {"role": "assistant", "content": "I am"}
    assert normalised(USER, begun)[1].warnings == (CONTINUED_WARNING,)
    for status in ("completed", "incomplete"):
        assert not normalised(USER, {**begun, "status": status})[1].warnings
    assert not normalised(USER, begun, USER)[1].warnings
    assert not normalised(USER, CALL)[1].warnings


def test_a_developers_message_that_asks_for_the_next_answer_is_the_users() -> None:
    kept, done = normalised(USER, ANSWER, {"role": "developer", "content": "Go on."})
    assert kept == [USER, ANSWER, {"role": "user", "content": "Go on."}]
    assert done.warnings == (LAST_SYSTEM_WARNING,)
