"""An adapter that has been checked, in the version that its files are now."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from serving.adapters.archive import archive_folder
from serving.adapters.canary import is_chosen
from serving.adapters.config import AdapterConfig
from serving.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterError, digest_of, read_files
from serving.adapters.fit import Base, misfits
from serving.adapters.source import URL_SCHEMES, Source


class Version(msgspec.Struct, frozen=True):
    """What an engine needs to load an adapter: where its files are, and what they must be."""

    digest: str
    """Stands for the content of the files: another content is another version."""
    source: str
    revision: str | None = None
    """The commit of a repository, or the SHA-256 of an archive."""
    loaded_bytes: int = 0
    """The main memory that it takes in each process of an engine."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A version of an adapter under the name that it is declared by."""

    declared: AdapterConfig
    version: Version
    canary: Version | None = None
    """The version that is tried beside the stable one."""
    is_canary: bool = False
    """Whether `version` is that one."""

    @property
    def name(self) -> str:
        return self.declared.name

    def as_canary(self) -> "Adapter":
        """Returns it with the version that is tried."""
        assert self.canary is not None
        return replace(self, version=self.canary, is_canary=True)

    def chosen_for(self, key: str) -> "Adapter":
        """Returns it with the version that a session, or a request without one, gets."""
        if self.canary is None:
            return self
        assert self.declared.canary is not None
        is_canary = is_chosen(f"{self.name} {key}", self.declared.canary.weight)
        return self.as_canary() if is_canary else self


def checked(source: Source, base: Base, declared: AdapterConfig | None = None) -> Version:
    """Reads the files of a version, which are downloaded if they are not here yet, and checks them
    against the model and what else is declared of the adapter. Raises AdapterError with all reasons
    why it cannot be served."""
    folder = folder_of(source.source, source.pin)
    files = read_files(folder)
    trained_on, rank = (None, None) if declared is None else (declared.base, declared.rank)
    if found := misfits(files, base, trained_on, rank):
        raise AdapterError("; ".join(found))
    return Version(digest_of(folder), source.source, source.pin, files.loaded_bytes)


def folder_of(source: str, pin: str | None) -> Path:
    """Returns the folder of an adapter's files on this machine. Raises AdapterError."""
    if pin is None:
        return Path(source)
    if source.startswith(URL_SCHEMES):
        folder = archive_folder(pin)
        if not folder.is_dir():
            raise AdapterError(
                f"{source} is not on the volume of the weights: run `mistral-serve weights`, or "
                "`mistral-serve adapters add` where that is mounted"
            )
        return folder
    from huggingface_hub import errors, snapshot_download

    patterns = [CONFIG_FILE, WEIGHTS_FILE]
    try:
        try:
            found = snapshot_download(
                source, revision=pin, allow_patterns=patterns, local_files_only=True
            )
            if all((Path(found) / name).is_file() for name in patterns):
                return Path(found)
        except errors.LocalEntryNotFoundError:
            pass
        return Path(snapshot_download(source, revision=pin, allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, RuntimeError) as error:
        raise AdapterError(
            f"{source} at {pin[:7]} cannot be downloaded: {str(error).splitlines()[0]}. Run "
            "`mistral-serve weights` where the hub can be reached"
        ) from None
