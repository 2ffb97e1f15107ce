"""What readers of requests need to know of the model and the day."""

import datetime

from serving.mistral import ModelRules

RULES = ModelRules("the-model", "v11", context_tokens=32768, image_limit=10)
READING = (RULES, datetime.date(2026, 3, 1))
"""The arguments of a reader after the body."""
