"""Kubernetes' objects."""

from typing import Any

Object = dict[str, Any]
"""One as its manifest and the API server have it."""
