import pytest

from serving.mistral.context_length import in_anthropics_words, in_openais_words


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "This model's maximum context length is 131072 tokens. However, your prompt contains "
            "560004 input tokens, which exceeds this limit even without any output tokens.",
            "prompt is too long: 560004 tokens > 131072 maximum",
        ),
        (
            "This model's maximum context length is 8 tokens. However, your prompt contains at "
            "least 9 input tokens, which exceeds this limit even without any output tokens.",
            "prompt is too long: 9 tokens > 8 maximum",
        ),
        (
            "This model's maximum context length is 8 tokens. However, your prompt contains 99 "
            "characters (more than 64 characters, which is the upper bound for 8 input tokens).",
            "prompt is too long: 99 characters > 64 maximum",
        ),
        (
            "request (9001 tokens) exceeds the available context size (4096 tokens), try "
            "increasing it",
            "prompt is too long: 9001 tokens > 4096 maximum",
        ),
        (
            "The number of tokens to keep from the initial prompt is greater than the context "
            "length (n_keep: 13055>= n_ctx: 4096). Try to load the model with a larger context.",
            "prompt is too long: 13055 tokens > 4096 maximum",
        ),
        (
            "This model's maximum context length is 4096 tokens. However, your messages resulted "
            "in 9001 tokens. Please reduce the length of the messages.",
            "prompt is too long: 9001 tokens > 4096 maximum",
        ),
        (
            "This model's maximum context length is 8 tokens, and the prompt has 8 input tokens.",
            "prompt is too long: 8 tokens > 7 maximum",
        ),
    ],
)
def test_a_prompt_that_is_too_long(message: str, words: str) -> None:
    assert in_anthropics_words(message) == words


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens must be at least 1.",
        "'max_tokens' is too large: 90. This model's maximum context length is 99 tokens and your "
        "request has 40 input tokens (90 > 99 - 40).",
    ],
)
def test_any_other_error_keeps_its_words(message: str) -> None:
    assert in_anthropics_words(message) == message


@pytest.mark.parametrize(
    "message",
    [
        "request (9001 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "The number of tokens to keep from the initial prompt is greater than the context length "
        "(n_keep: 9001>= n_ctx: 4096). Try to load the model with a larger context length.",
    ],
)
def test_openais_clients_are_told_in_openais_words(message: str) -> None:
    assert in_openais_words(message) == (
        "This model's maximum context length is 4096 tokens. However, your messages resulted in "
        "9001 tokens. Please reduce the length of the messages."
    )


def test_openais_clients_know_vllms_words() -> None:
    message = "This model's maximum context length is 8 tokens. However, you requested 9 tokens."
    assert in_openais_words(message) == message
    assert in_openais_words("max_tokens must be at least 1.") is None
