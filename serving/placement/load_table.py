"""The loads of many replicas as columns of numbers, so that a policy compares ten or a thousand of
them in a few microseconds."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from serving.placement.load import ReplicaLoad

Columns = npt.NDArray[np.float64]
"""One row per `Column`, one column per replica."""


class Column(IntEnum):
    """The rows of `Columns`: fields of `ReplicaLoad` and `Rates`, then the terms that
    `ReplicaLoad.prefill_terms` returns."""

    REQUESTS = 0
    """Those that someone waits for."""
    CONTEXT_TOKENS = 1
    FREE_KV_TOKENS = 2
    """Free tokens of the KV cache; -1 where the batch is full."""
    BOOKED_S = 3
    PREFILL_MS_PER_TOKEN = 4
    STEP_MS_PER_CONTEXT_TOKEN = 5
    WAITS = 6
    BEHIND_MS = 7
    FIRST_MS = 8
    FIRST_BEGAN_S = 9


class LoadTable:
    """The loads of a fleet by slot, as of the last `note` of each."""

    def __init__(self) -> None:
        self._columns: Columns = np.zeros((len(Column), 8))
        self._changed: dict[int, ReplicaLoad] = {}
        self._unseen: dict[int, ReplicaLoad] = {}
        """Loads whose prefill changes with time alone; see `ReplicaLoad.prefill_terms`."""

    def note(self, slot: int, load: ReplicaLoad) -> None:
        """Notes that the load in a slot has changed or is new."""
        self._changed[slot] = load

    def forget(self, slot: int) -> None:
        self._changed.pop(slot, None)
        self._unseen.pop(slot, None)

    def columns(self, slots: Sequence[int] | slice) -> Columns:
        """Returns the current columns of these slots; the array must not be kept."""
        if self._unseen:
            self._changed |= self._unseen
            self._unseen.clear()
        if self._changed:
            missing = max(self._changed) + 1 - self._columns.shape[1]
            if missing > 0:
                grown = max(missing, self._columns.shape[1])
                self._columns = np.pad(self._columns, ((0, 0), (0, grown)))
            for slot, load in self._changed.items():
                row = row_of(load)
                self._columns[:, slot] = row
                if row[Column.WAITS] < 0:
                    self._unseen[slot] = load
            self._changed.clear()
        return self._columns[:, slots]


class Loads(list[ReplicaLoad]):
    """The loads of the replicas in these slots of a table. The list must not be changed."""

    def __init__(self, loads: Sequence[ReplicaLoad], table: LoadTable, slots: list[int]) -> None:
        super().__init__(loads)
        self._table = table
        in_order = slots == list(range(len(slots)))
        self._slots = slice(len(slots)) if in_order else slots

    @property
    def columns(self) -> Columns:
        return self._table.columns(self._slots)


def columns_of(loads: Sequence[ReplicaLoad]) -> Columns:
    """Returns the columns of any loads, from their table if they are in one."""
    if isinstance(loads, Loads):
        return loads.columns
    return np.array([row_of(load) for load in loads]).T


def row_of(load: ReplicaLoad) -> tuple[float, ...]:
    """Returns the values of a load in the order of `Column`."""
    rates = load.rates
    full = load.requests >= load.capacity.max_num_seqs
    return (
        load.requests - load.background_requests,
        load.context_tokens,
        -1 if full else load.capacity.kv_cache_tokens - load.kv_tokens,
        load.booked_s,
        rates.prefill_ms_per_token,
        rates.step_ms_per_context_token,
        *load.prefill_terms(),
    )
