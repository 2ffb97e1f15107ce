"""The few fields of a request that routing needs."""

import msgspec

from serving.router.errors import ApiError

BYTES_PER_TOKEN = 4
"""About what English text and JSON take per token with Mistral's tekken tokenizer."""

EXPECTED_OUTPUT_TOKENS = 512
"""Booked for an answer when the client's limit is absent or higher: clients send the whole
context length as `max_tokens` and mean "no limit" (the model cards' own examples do)."""


class RequestFields(msgspec.Struct):
    """What is read of a request's JSON body; all else passes through unread."""

    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None

    def work_tokens(self, body_bytes: int) -> int:
        """Tokens to book on a replica for this request: prompt by size, plus expected answer."""
        limit = self.max_completion_tokens or self.max_tokens or self.max_output_tokens
        if limit is None or not 0 < limit < EXPECTED_OUTPUT_TOKENS:
            limit = EXPECTED_OUTPUT_TOKENS
        return body_bytes // BYTES_PER_TOKEN + limit


# As lenient as vLLM, which takes "16" for 16.
_decode = msgspec.json.Decoder(RequestFields, strict=False).decode


def parse(body: bytes) -> RequestFields:
    """The fields of a JSON body. Raises ApiError 400 if it is not an object with such fields."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"The request is not valid: {error}.", code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            400, f"The request body is not valid JSON: {error}.", code="invalid_json"
        ) from None
    except RecursionError:
        raise ApiError(400, "The request body is nested too deeply.", code="invalid_json") from None
