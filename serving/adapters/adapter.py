"""An adapter that has been checked, in the version that its files are now."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from serving.adapters.config import AdapterConfig
from serving.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterError, digest_of, read_files
from serving.adapters.fit import Base, misfits


class Version(msgspec.Struct, frozen=True):
    """What an engine needs to load an adapter: where its files are, and what they must be."""

    digest: str
    """Stands for the content of the files: another content is another version."""
    source: str
    revision: str | None = None
    loaded_bytes: int = 0
    """The main memory that it takes in each process of an engine."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A version of an adapter under the name that it is declared by."""

    declared: AdapterConfig
    version: Version

    @property
    def name(self) -> str:
        return self.declared.name


def checked(declared: AdapterConfig, base: Base) -> Adapter:
    """Reads the files of an adapter, which are downloaded if they are not here yet, and checks them
    against the model. Raises AdapterError with all reasons why it cannot be served."""
    folder = folder_of(declared.source, declared.revision)
    files = read_files(folder)
    if found := misfits(files, base, declared.base):
        raise AdapterError("; ".join(found))
    version = Version(digest_of(folder), declared.source, declared.revision, files.loaded_bytes)
    return Adapter(declared, version)


def folder_of(source: str, revision: str | None) -> Path:
    """Returns the folder of an adapter's files on this machine. Raises AdapterError."""
    if revision is None:
        return Path(source)
    from huggingface_hub import errors, snapshot_download

    patterns = [CONFIG_FILE, WEIGHTS_FILE]
    try:
        try:
            found = snapshot_download(
                source, revision=revision, allow_patterns=patterns, local_files_only=True
            )
            if all((Path(found) / name).is_file() for name in patterns):
                return Path(found)
        except errors.LocalEntryNotFoundError:
            pass
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, RuntimeError) as error:
        raise AdapterError(
            f"{source} at {revision[:7]} cannot be downloaded: {str(error).splitlines()[0]}. Run "
            "`mistral-serve weights` where the hub can be reached"
        ) from None
