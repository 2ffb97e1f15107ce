"""The cache salt of the request that is being rendered."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CACHE_SALT: ContextVar[str | None] = ContextVar("cache_salt", default=None)


@contextmanager
def salted(salt: str | None) -> Iterator[None]:
    """Inside the context, this task and those that it starts render a request with that salt."""
    token = CACHE_SALT.set(salt)
    try:
        yield
    finally:
        CACHE_SALT.reset(token)
