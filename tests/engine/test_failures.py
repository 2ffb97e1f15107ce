"""What a client is told of each error."""

import logging

import pytest
from vllm.exceptions import (
    QueueOverflowError,
    VLLMNotFoundError,
    VLLMUnprocessableEntityError,
    VLLMValidationError,
)
from vllm.v1.engine.exceptions import EngineGenerateError

from serving.engine.grammar_check import GrammarError
from serving.engine.image_file import MediaError
from serving.engine.vllm.failures import (
    CONSTRAINT,
    AbandonedError,
    ConstraintError,
    Failure,
    failure_of,
)
from serving.mistral.rules import InvalidRequest


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (InvalidRequest("No.", param="n", code="invalid_type"), (400, "No.", "n", "invalid_type")),
        (VLLMNotFoundError("None."), (404, "None.", "model", "model_not_found")),
        (
            VLLMValidationError("Too hot.", parameter="temperature", value=9),
            (400, "Too hot.", "temperature", "invalid_value"),
        ),
        (
            VLLMValidationError("This model's maximum context length is 9 tokens."),
            (
                400,
                "This model's maximum context length is 9 tokens.",
                None,
                "context_length_exceeded",
            ),
        ),
        (VLLMUnprocessableEntityError("Bad."), (400, "Bad.", None, "invalid_value")),
        (MediaError("Bad."), (400, "Bad.", None, "invalid_value")),
        (
            VLLMValidationError("top_k must be at least 1, got -5."),
            (400, "top_k must be at least 1, got -5.", "top_k", "invalid_value"),
        ),
        (
            VLLMValidationError("extra_args integers are too large.", parameter="extra_args"),
            (400, "vllm_xargs integers are too large.", "vllm_xargs", "invalid_value"),
        ),
        (
            VLLMValidationError("min_count must be >= 2."),
            (400, "min_count must be >= 2.", "repetition_detection", "invalid_value"),
        ),
    ],
)
def test_what_the_request_is_to_blame_for(
    error: Exception, failure: tuple[int, str, str | None, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert failure_of(error) == Failure(*failure)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "at 1(8): failed to compile JSON schema: Invalid type: objekt\n 1 |",
            "Invalid type: objekt",
        ),
        ('failed to parse "%json": too deep at line 1', "too deep at line 1"),
        ("at 3(7): unknown name: a\n 3 | a", "unknown name: a"),
        (
            "at 3(7): failed to compile JSON schema: regex parse error:\n    (?!a)\n    ^^^\n"
            "error: look-around is not supported\n 1 | start: calls",
            "look-around is not supported",
        ),
    ],
)
def test_a_broken_grammar_is_named_without_our_own_around_it(message: str, reason: str) -> None:
    failure = failure_of(GrammarError(message))
    assert (failure.status, failure.code) == (400, "invalid_constraint")
    assert failure.message.endswith(f"cannot be used: {reason}.")


def test_the_field_of_a_broken_schema_is_named() -> None:
    failure = failure_of(GrammarError("Invalid type: objekt", "text.format"))
    assert failure.param == "text.format"
    assert failure.message == "text.format cannot be used: Invalid type: objekt."


def test_no_field_is_named_that_requests_do_not_have() -> None:
    error = VLLMValidationError("Too long.", parameter="input_tokens", value=9)
    assert failure_of(error).param is None


def test_a_request_that_is_nested_too_deeply_is_to_blame() -> None:
    assert failure_of(RecursionError("deep")).code == "too_deep"


def test_a_constraint_is_to_blame() -> None:
    assert failure_of(ConstraintError()) == CONSTRAINT
    assert (CONSTRAINT.status, CONSTRAINT.code) == (400, "invalid_constraint")


def test_an_engine_that_admits_no_more_is_busy() -> None:
    failure = failure_of(QueueOverflowError())
    assert (failure.status, failure.code) == (503, "overloaded")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("inside"), EngineGenerateError("inside"), AbandonedError("inside"), KeyError(1)],
)
def test_any_other_error_is_the_engines_and_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failure = failure_of(error)
    assert (failure.status, failure.code) == (500, "request_failed")
    assert "inside" not in failure.message
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None


def test_openais_envelope() -> None:
    assert Failure(400, "No.", "n", "invalid_value").openai() == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_value",
        }
    }
