"""What a client is told of an error."""

import logging
import re
from dataclasses import dataclass
from typing import Any

from vllm.exceptions import (
    GracefulHTTPError,
    VLLMClientError,
    VLLMNotFoundError,
    VLLMUnprocessableEntityError,
)

from serving.encoders.errors import openai_error
from serving.engine.grammar_check import GrammarError
from serving.engine.image_file import MediaError
from serving.engine.resumption import CannotContinueError
from serving.mistral.rules import InvalidRequest
from serving.requests.request import Request, Sampling

log = logging.getLogger(__name__)

_CONTEXT = "maximum context length"
_GRAMMAR = re.compile(
    r'(?:at \d+\(\d+\): )?(?:failed to (?:compile JSON schema|parse "%json"): )?(.*)'
)
"""The reason why a grammar does not compile, after its place in a grammar that is our own."""
_IN_EXPRESSION = re.compile(r"regex parse error:\n.*?^error: (.*?)$", re.DOTALL | re.MULTILINE)
"""The reason behind a quoted regular expression."""
_CLIENTS_NAMES = {
    "extra_args": "vllm_xargs",
    "max_pattern_size": "repetition_detection",
    "min_count": "repetition_detection",
}
"""The fields of requests by vLLM's names of what they set, where those differ."""
_FIELDS = frozenset(
    (*Sampling.__struct_fields__, *Request.__dataclass_fields__, "messages", "top_logprobs")
)
_FIELD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error response. Its message contains nothing of the engine's inside."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None

    def openai(self) -> dict[str, Any]:
        """Returns the error in the envelope of OpenAI's APIs."""
        return openai_error(self.message, self.status, self.param, self.code)


CONSTRAINT = Failure(
    400,
    "The answer cannot be constrained to the schema or grammar of this request, which is too large "
    "or contradictory. Send a smaller or simpler one.",
    code="invalid_constraint",
)


TOO_DEEP = Failure(
    400, "A part of this request, such as a tool's schema, is nested too deeply.", code="too_deep"
)


class ConstraintError(Exception):
    """The answer cannot take the form that the request asks for. The arguments are the fields of
    the request that together leave it no token, if there are several."""


class AbandonedError(Exception):
    """The engine ended an answer that was neither complete nor cut off at a limit."""


def failure_of(error: Exception) -> Failure:
    """Returns the response to a request that failed while its engine lives; logs an error that is
    not the request's fault."""
    match error:
        case InvalidRequest():
            return Failure(400, error.message, error.param, error.code)
        case ConstraintError(args=()):
            return CONSTRAINT
        case ConstraintError(args=(*others, last)):
            message = (
                f"{', '.join(others)} and {last} together leave no token with which the answer "
                "could go on. Send one of them alone, or allow more tokens."
            )
            return Failure(400, message, others[0], "invalid_constraint")
        case CannotContinueError():
            return Failure(409, _message(error), code="cannot_continue")
        case GrammarError():
            return _invalid_grammar(_message(error), error.field)
        case VLLMNotFoundError():
            return Failure(404, _message(error), "model", "model_not_found")
        case VLLMUnprocessableEntityError() | MediaError():
            return Failure(400, _message(error), _param(error), "invalid_value")
        case VLLMClientError():
            message = _message(error).replace("extra_args", "vllm_xargs")
            code = "context_length_exceeded" if _CONTEXT in message else "invalid_value"
            return Failure(400, message, _param(error), code)
        case GracefulHTTPError():
            return Failure(int(error.http_status), error.message, code="overloaded")
        case RecursionError():
            return TOO_DEEP
    log.error("a request failed", exc_info=error)
    return Failure(500, "The engine failed on this request.", code="request_failed")


def _invalid_grammar(message: str, field: str | None) -> Failure:
    match = _IN_EXPRESSION.search(message) or _GRAMMAR.match(message)
    assert match is not None
    subject = field or "The schema or grammar of this request"
    reason = match[1].rstrip(".")
    return Failure(400, f"{subject} cannot be used: {reason}.", field, "invalid_constraint")


def _message(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def _param(error: Exception) -> str | None:
    """Returns the request's field that an error of vLLM's is about: the one that it names, or else
    begins with."""
    first = _FIELD.match(_message(error))
    named: str | None = getattr(error, "parameter", None) or (first and first[0])
    if named in _CLIENTS_NAMES:
        return _CLIENTS_NAMES[named]
    return named if named in _FIELDS else None
