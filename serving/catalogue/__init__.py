"""The models that can be served: one YAML file each, beside this module."""

from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError, ValidationInfo

from serving.catalogue.entry import CatalogueEntry, CatalogueError, Sampling
from serving.catalogue.file import CatalogueFile, Variant
from serving.catalogue.loop_guard import LoopGuard
from serving.section import NotYamlError, explain, parse_yaml

__all__ = [
    "CatalogueEntry",
    "CatalogueError",
    "CatalogueFile",
    "LoopGuard",
    "ModelName",
    "Sampling",
    "Variant",
    "find",
    "load",
    "names",
    "read",
]


def names() -> list[str]:
    """The names of the entries, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(Path(f.name).stem for f in files if f.name.endswith(".yaml"))


@cache
def read(name: str) -> CatalogueFile:
    """The file of that name. Raises KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    return _parse(f"{name}.yaml", resources.files(__name__).joinpath(f"{name}.yaml").read_bytes())


def find(model: str) -> CatalogueFile:
    """Returns the file of a model's catalogue name, id or alias, or at the path of a YAML file.
    Raises CatalogueError."""
    if model.endswith((".yaml", ".yml")):
        try:
            return _parse(model, Path(model).read_bytes())
        except OSError as error:
            raise CatalogueError(f"{model}: {error.strerror or error}") from None
    with suppress(KeyError):
        return read(model)
    for file in map(read, names()):
        if model in (file.id, *file.aliases):
            return file
    raise CatalogueError(
        f"unknown model '{model}'; the catalogue has: {', '.join(names())}, and each "
        "model's id and aliases, as `mistral-serve models` lists them; "
        "a model of your own is the path of its .yaml file"
    )


def _known(model: str, info: ValidationInfo) -> str:
    if model.endswith((".yaml", ".yml")):
        model = str((info.context or Path()) / model)
    find(model)
    return model


ModelName = Annotated[str, AfterValidator(_known)]
"""A catalogue name, an id, an alias, or the path of a YAML file: relative to the folder that is the
context."""


def load(name: str, variant: str | None = None) -> CatalogueEntry:
    """The entry of that name in a variant, the default one if none is named. Raises KeyError."""
    return read(name).entry(variant)


def _parse(file: str, text: bytes) -> CatalogueFile:
    try:
        document = parse_yaml(text)
    except NotYamlError as error:
        raise CatalogueError(f"{file}: {error}") from None
    try:
        return CatalogueFile.model_validate(document)
    except ValidationError as error:
        mistakes = (
            f"{file}: {field}: {message}" if field else f"{file}: {message}"
            for field, message in explain(error, CatalogueFile)
        )
        raise CatalogueError("\n".join(mistakes)) from None
