"""What became of requests to adapters that have a canary, and what follows by its rule."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.adapters import declared
from serving.adapters.adapter import Adapter
from serving.adapters.canary import Tally, verdict
from serving.adapters.files import AdapterError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trial:
    """The tallies of two versions since one is the canary of the other."""

    versions: tuple[str, str]
    stable: Tally = field(default_factory=Tally)
    canary: Tally = field(default_factory=Tally)


class Canaries:
    """Writes what a canary's rule decides into its declaration, where all routers and whoever
    restarts find it."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._trials: dict[str, _Trial] = {}

    def ended(self, adapter: Adapter, failed: bool, ttft_s: float | None) -> None:
        """Counts a request that has ended. `failed` is whether it did through no fault of its
        client."""
        trial = self._trials.get(adapter.name)
        if trial is None:
            return
        stable, canary = trial.versions
        if adapter.is_canary and adapter.version.digest == canary:
            trial.canary.add(failed, ttft_s)
        elif not adapter.is_canary and adapter.version.digest == stable:
            trial.stable.add(failed, ttft_s)

    def judge(self, adapters: Mapping[str, Adapter]) -> dict[str, str]:
        """Promotes and withdraws canaries by their rules. Returns why a decision could not be
        written, by the adapters' names."""
        trials, unwritten = {}, {}
        for name, adapter in adapters.items():
            config = adapter.declared.canary
            if adapter.canary is None or config is None or config.rule is None:
                continue
            versions = adapter.version.digest, adapter.canary.digest
            trial = self._trials.get(name)
            if trial is None or trial.versions != versions:
                trial = _Trial(versions)
            trials[name] = trial
            found = verdict(config.rule, trial.stable, trial.canary)
            if found is None:
                continue
            try:
                self._write(adapter, found.is_good, found.reason)
            except AdapterError as error:
                what = "promoted" if found.is_good else "withdrawn"
                unwritten[name] = f"its canary should be {what}, as {found.reason}; {error}"
        self._trials = trials
        return unwritten

    def _write(self, adapter: Adapter, is_good: bool, reason: str) -> None:
        """Raises AdapterError."""
        assert self._folder is not None
        path = declared.path_of(self._folder, adapter.name)
        if not path.exists() or declared.read(path) != adapter.declared:
            return  # Someone has changed it since, perhaps another router.
        if is_good:
            declared.write(self._folder, adapter.declared.promoted())
            log.info("the canary of the adapter %s is promoted: %s", adapter.name, reason)
        else:
            declared.write(self._folder, adapter.declared.withdrawn(reason))
            log.error("the canary of the adapter %s is withdrawn: %s", adapter.name, reason)
