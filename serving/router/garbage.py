"""How a router's process collects garbage."""

import gc

_THRESHOLD = 10_000
"""New objects after which garbage is looked for. Requests leave none, and with Python's 700 the
collector ran at each fourth request with tools, over what was decoded of it."""


def spare_requests() -> None:
    """Keeps the collector from the work of requests; to be called once all long-lived objects are
    there, which are never looked at again."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD)
