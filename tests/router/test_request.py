import pytest

from serving.router.errors import ApiError
from serving.router.request import EXPECTED_OUTPUT_TOKENS, RequestFields, parse


def test_the_fields_are_read_and_all_else_is_left_alone() -> None:
    fields = parse(b'{"model": "m", "messages": [{"content": [1, null]}], "max_tokens": 7}')
    assert fields == RequestFields(model="m", max_tokens=7)


def test_numbers_are_read_as_leniently_as_vllm_reads_them() -> None:
    assert parse(b'{"max_tokens": "16"}') == parse(b'{"max_tokens": 16.0}')


def test_null_fields_count_as_absent() -> None:
    assert parse(b'{"model": null, "max_tokens": null}') == RequestFields()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": "m"} {}', "trailing characters"),
        (b'{"model": "\xff"}', "not valid JSON"),
        (b'{"messages": ' + b"[" * 100_000, "nested too deeply"),
        (b'["m"]', "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"model": 5}', "`$.model`"),
        (b'{"max_tokens": "many"}', "`$.max_tokens`"),
    ],
)
def test_what_is_no_request_is_a_400_that_says_why(body: bytes, says: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(body)
    assert raised.value.status == 400
    assert says in raised.value.message


def test_the_error_keeps_what_the_client_wrote_to_itself() -> None:
    with pytest.raises(ApiError) as raised:
        parse(b'{"messages": "a secret", "model": {"another": "secret"}}')
    assert "secret" not in raised.value.message


def test_work_is_the_prompt_at_four_bytes_a_token_and_the_clients_limit() -> None:
    assert RequestFields(max_tokens=100).work_tokens(body_bytes=4000) == 1000 + 100


@pytest.mark.parametrize("limit", [None, 0, -1_000_000, 10**30, EXPECTED_OUTPUT_TOKENS + 1])
def test_a_limit_that_says_nothing_books_the_expected_answer(limit: int | None) -> None:
    assert RequestFields(max_tokens=limit).work_tokens(0) == EXPECTED_OUTPUT_TOKENS


@pytest.mark.parametrize(
    "field",
    ["max_tokens", "max_completion_tokens", "max_output_tokens"],
)
def test_each_api_names_its_limit_differently(field: str) -> None:
    assert parse(b'{"%b": 9}' % field.encode()).work_tokens(0) == 9


def test_max_completion_tokens_wins_over_the_deprecated_max_tokens() -> None:
    assert RequestFields(max_tokens=9, max_completion_tokens=5).work_tokens(0) == 5
