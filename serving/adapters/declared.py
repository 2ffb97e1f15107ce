"""The folder with a YAML file for each adapter, which `mistral-serve adapters` and people write."""

import os
import tempfile
from pathlib import Path

import yaml
from pydantic import ValidationError

from serving.adapters.config import AdapterConfig
from serving.adapters.files import AdapterError
from serving.section import NotYamlError, explain, parse_yaml

_SUFFIXES = (".yaml", ".yml")


def files_in(folder: Path) -> list[Path]:
    """Returns the files that declare an adapter, in order. Kubernetes' own folders in a mounted
    ConfigMap begin with a dot. Raises AdapterError."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix in _SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read: {error.strerror}") from None


def read(path: Path) -> AdapterConfig:
    """Reads a file that declares an adapter. Raises AdapterError."""
    try:
        document = parse_yaml(path.read_bytes())
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}") from None
    except NotYamlError as error:
        raise AdapterError(f"{path}: {error}") from None
    try:
        return AdapterConfig.model_validate(document)
    except ValidationError as error:
        field, message = explain(error, AdapterConfig)[0]
        raise AdapterError(
            f"{path}: {field}: {message}" if field else f"{path}: {message}"
        ) from None


def write(folder: Path, declared: AdapterConfig) -> Path:
    """Writes the file of an adapter, so that readers see the whole of it or none. Returns its path.
    Raises AdapterError."""
    path = path_of(folder, declared.name)
    text = yaml.safe_dump(declared.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(descriptor, 0o644)
        Path(name).replace(path)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be written to: {error.strerror}") from None
    return path


def path_of(folder: Path, name: str) -> Path:
    """Returns where the adapter of that name is declared: in its file, or in the one that it would
    get. Raises AdapterError."""
    for path in files_in(folder):
        try:
            if read(path).name == name:
                return path
        except AdapterError:
            continue
    return folder / f"{name.replace('/', '--')}.yaml"
