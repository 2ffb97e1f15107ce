"""What a client is told of a prompt that cannot be made of its request."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mistral_common.exceptions import (
    InvalidToolException,
    InvalidToolSchemaException,
    MistralCommonException,
)
from pydantic import ValidationError
from vllm.exceptions import VLLMUnprocessableEntityError, VLLMValidationError

from serving.engine.image_file import MediaError
from serving.mistral.answer import with_originals
from serving.mistral.rules import InvalidRequest
from serving.requests.request import JsonObject

_NONE: Mapping[str, str] = {}
_RECURSION = "maximum recursion depth exceeded"
_SHOWN_CHARS = 300
"""How much of an error about a schema is shown, which may repeat all of it."""


@contextlib.contextmanager
def prompt_errors(
    field: str, originals: Mapping[str, str] = _NONE, tools: Sequence[JsonObject] = ()
) -> Iterator[None]:
    """Raises InvalidRequest for what vLLM and mistral_common raise for prompts that they cannot
    make. `field` has the prompt in the client's request; `originals` and `tools` are a chat's."""
    try:
        yield
    except MediaError:
        raise
    except VLLMUnprocessableEntityError as error:
        raise InvalidRequest(str(error.args[0]), field, "invalid_image") from error
    except VLLMValidationError as error:
        if error.parameter not in ("input_text", "input_tokens"):
            raise
        raise InvalidRequest(str(error.args[0]), field, "context_length_exceeded") from error
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        if _RECURSION in str(error):
            raise RecursionError from error
        raise _refusal(error, field, originals, tools) from error


def _refusal(
    error: Exception, field: str, originals: Mapping[str, str], tools: Sequence[JsonObject]
) -> InvalidRequest:
    match error.__cause__ or error:
        case InvalidToolSchemaException() as cause:
            field, message = "tools", _schema_error(cause, tools)
        case InvalidToolException() as cause:
            field, message = "tools", str(cause)
        case MistralCommonException() as cause:
            message = str(cause)
        case ValidationError() as cause:
            first = cause.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(str(key) for key in first["loc"])
            what = re.sub("^Value error, ", "", first["msg"]).rstrip(".")
            message = f"A part of {field} is not valid{place and f' at {place}'}: {what}."
        case _:
            message = f"No prompt can be made of {field}. Check the types of its values."
    return InvalidRequest(with_originals(message, originals), field, "invalid_value")


def _schema_error(cause: Any, tools: Sequence[JsonObject]) -> str:
    """Returns what jsonschema finds wrong, whose error `cause` was raised in handling."""
    wrong = cause.__context__
    named = [
        f'the tool "{tool["function"]["name"]}"'
        for tool in tools
        if _value_at(tool["function"].get("parameters"), wrong.absolute_path) == wrong.instance
    ]
    what = f"{wrong.message} (at {wrong.json_path})"[:_SHOWN_CHARS]
    return f"The parameters of {named[0] if named else 'a tool'} are no JSON schema: {what}."


def _value_at(value: Any, path: Iterable[str | int]) -> Any:
    for key in path:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value
