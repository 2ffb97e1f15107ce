"""The adapters of a model that requests may ask for: those of the config, and of a folder that is
watched."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from serving.adapters import declared
from serving.adapters.adapter import Adapter, Version, checked
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterError
from serving.adapters.fit import Base
from serving.catalogue import CatalogueEntry
from serving.router.http.watched_file import version_of
from serving.router.replicas.canaries import Canaries
from serving.weights_claims import ClaimsError

log = logging.getLogger(__name__)

PERIOD_S = 0.5
"""Time between two looks at the folder."""
_RETRY_S = 30.0
"""Time after which one that was refused is tried again though its files have not changed: its
repository may be reachable by then."""

_Files = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """The adapters of a model, as configured."""

    entry: CatalogueEntry
    adapters: tuple[AdapterConfig, ...]
    folder: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found of an adapter when it was last looked at."""

    config: AdapterConfig
    files: _Files
    at_s: float
    reason: str | None
    """Why it was refused."""


class DeclaredAdapters:
    """Adapters by name. `look` is called in a thread; what it finds takes the place of what was
    there at once. A bad adapter is refused with a reason and leaves all others, and the version of
    its own that was there before, as they are."""

    def __init__(self, settings: AdapterSettings) -> None:
        self.by_name: Mapping[str, Adapter] = {}
        self.refused: Mapping[str, str] = {}
        """Why each of those that are refused is, by the adapter's name or by its file."""
        self._by_any_name: Mapping[str, Adapter] = {}
        self.canaries = Canaries(settings.folder)
        self._settings = settings
        self._names = frozenset((settings.entry.id, *settings.entry.aliases))
        self._base: Base | None = None
        self._seen: dict[str, _Seen] = {}

    @property
    def max_loras(self) -> int:
        lora = self._settings.entry.lora
        assert lora is not None
        return lora.max_loras

    def find(self, name: str) -> Adapter | None:
        """Returns the adapter that has a name or an alias."""
        return self._by_any_name.get(name)

    def look(self) -> None:
        """Reads what has changed."""
        refused: dict[str, str] = {}
        by_name: dict[str, Adapter] = {}
        found = self._declared(refused)
        if found is None:  # The folder is away; what was there may still be asked for.
            self.refused = refused
            return
        self._seen = {name: seen for name, seen in self._seen.items() if name in found}
        for name, config in found.items():
            adapter, reason = self._adapter(config)
            if adapter is not None:
                by_name[name] = adapter
            if config.canary is not None and config.canary.withdrawn is not None:
                reason = reason or f"its canary is withdrawn: {config.canary.withdrawn}"
            if reason is not None:
                refused[name] = reason
        for name in self.by_name.keys() - by_name.keys():
            log.info("the adapter %s is no longer served", name)
        for name, reason in refused.items():
            if self.refused.get(name) != reason:
                log.error("the adapter %s is refused: %s", name, reason)
        self.by_name, self.refused = by_name, refused | self.canaries.judge(by_name)
        self._by_any_name = {name: one for one in by_name.values() for name in one.declared.names}

    def _declared(self, refused: dict[str, str]) -> dict[str, AdapterConfig] | None:
        """Returns the declarations by name. Adds those that cannot be read to `refused`; None if
        the folder cannot be."""
        found: dict[str, AdapterConfig] = {}
        try:
            declarations = list(self._declarations(refused))
        except AdapterError as error:
            refused["adapters_folder"] = str(error)
            if self.refused.get("adapters_folder") != str(error):
                log.error("adapters_folder: %s; what it had before stays in force", error)
            return None
        taken: set[str] = set()
        for origin, config in declarations:
            if own := self._names.intersection(config.names):
                refused[origin] = f"{min(own)} is a name of the model itself"
            elif twice := taken.intersection(config.names):
                refused[origin] = f"there is another adapter of the name {min(twice)}"
            else:
                found[config.name] = config
                taken.update(config.names)
        return found

    def _declarations(self, refused: dict[str, str]) -> Iterator[tuple[str, AdapterConfig]]:
        for config in self._settings.adapters:
            yield config.name, config
        if self._settings.folder is None:
            return
        for path in declared.files_in(Path(self._settings.folder)):
            try:
                yield path.name, declared.read(path)
            except AdapterError as error:
                refused[path.name] = str(error)

    def _adapter(self, config: AdapterConfig) -> tuple[Adapter | None, str | None]:
        """Returns the version of an adapter that is to be served, and why a newer one or its canary
        is not."""
        seen, before = self._seen.get(config.name), self.by_name.get(config.name)
        files, now_s = _files_of(config), time.monotonic()
        if seen is not None and seen.config == config and seen.files == files:
            is_final = seen.reason is None or now_s < seen.at_s + _RETRY_S
            if is_final:
                return before, seen.reason
        reason = None
        try:
            if self._base is None:
                self._base = base_of(self._settings.entry)
            version = checked(config, self._base, config)
            before = Adapter(config, version)
            log.info("the adapter %s is served as %s", config.name, version.digest)
            before = replace(before, canary=self._canary(config, self._base))
        except (AdapterError, ClaimsError) as error:
            reason = str(error)
        self._seen[config.name] = _Seen(config, files, now_s, reason)
        return before, reason

    @staticmethod
    def _canary(config: AdapterConfig, base: Base) -> Version | None:
        """Returns the version that is tried, if there is one. Raises AdapterError."""
        canary = config.canary
        if canary is None or canary.withdrawn is not None:
            return None
        try:
            version = checked(canary, base, config)
        except AdapterError as error:
            raise AdapterError(f"the canary: {error}") from None
        log.info("the canary of the adapter %s is %s", config.name, version.digest)
        return version


def _files_of(config: AdapterConfig) -> _Files:
    """Returns what shows that the files of its folders are others; those of a commit never are."""
    folders = [Path(one.source) for one in config.versions if one.is_folder]
    return tuple(version_of(f / name) for f in folders for name in (CONFIG_FILE, WEIGHTS_FILE))
