"""What a client is told of a prompt that cannot be made of its request."""

import contextlib
import re
from collections.abc import Iterator, Mapping

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
from serving.requests.request import Chat
from serving.requests.tools import refuse_broken_schemas

_RECURSION = "maximum recursion depth exceeded"


@contextlib.contextmanager
def prompt_errors(chat: Chat | None = None) -> Iterator[None]:
    """Raises InvalidRequest for what vLLM and mistral_common raise for a prompt that they cannot
    make: that of the `chat`, or else those of a completion."""
    field = "prompt" if chat is None else chat.field
    try:
        yield
    except (MediaError, InvalidRequest):
        raise
    except VLLMUnprocessableEntityError as error:
        raise InvalidRequest(str(error.args[0]), field) from error
    except VLLMValidationError as error:
        if error.parameter not in ("input_text", "input_tokens"):
            raise
        raise InvalidRequest(str(error.args[0]), field, "context_length_exceeded") from error
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        if _RECURSION in str(error):
            raise RecursionError from error
        if chat is not None and isinstance(error.__cause__, InvalidToolSchemaException):
            refuse_broken_schemas(chat)
        raise _refusal(error, field, {} if chat is None else chat.originals) from error


def _refusal(error: Exception, field: str, originals: Mapping[str, str]) -> InvalidRequest:
    match error.__cause__ or error:
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
    return InvalidRequest(with_originals(message, originals), field)
