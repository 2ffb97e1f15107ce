"""What a request must look like for each of Mistral's tokenizer versions, and what must be done to
the answer so that a client written for OpenAI notices nothing. Plain functions over plain data."""

from serving.mistral.answer import Answer
from serving.mistral.normalise import Normalised, normalise
from serving.mistral.rules import InvalidRequest, ModelRules

__all__ = ["Answer", "InvalidRequest", "ModelRules", "Normalised", "normalise"]
