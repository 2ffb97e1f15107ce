"""Converts requests for each of Mistral's tokenizer versions, and answers back, so that clients
written for OpenAI notice nothing. Plain functions over plain data."""

from serving.mistral.answer import Answer
from serving.mistral.normalise import Normalised, normalise
from serving.mistral.rules import InvalidRequest, ModelRules

__all__ = ["Answer", "InvalidRequest", "ModelRules", "Normalised", "normalise"]
