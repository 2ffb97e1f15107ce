"""The routers' first guess of a replica's speed, until they have measured it."""

from collections.abc import Callable
from functools import partial

from serving.catalogue.entry import CatalogueEntry
from serving.placement import Rates


def first_rates(entry: CatalogueEntry) -> Callable[[], Rates]:
    """Makes the first guess for a replica, by the entry's `first_speed`."""
    speed = entry.first_speed()
    if speed is None:
        return Rates
    return partial(
        Rates,
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        step_ms=speed.step_ms,
        step_ms_per_context_token=speed.step_ms_per_context_token,
    )
