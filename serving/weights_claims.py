"""Checks, before anything heavy is loaded, that weights are the model that the catalogue says."""

import json
import logging
from pathlib import Path
from typing import Any

from serving.catalogue import CatalogueEntry
from serving.catalogue.claims import WeightsFile, mismatches
from serving.catalogue.vllm_flags import vllm_flags
from serving.tiny import tiny_model_folder

PARAMS, CONFIG, TEKKEN = "params.json", "config.json", "tekken.json"
TEMPLATE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"

log = logging.getLogger(__name__)


class ClaimsError(Exception):
    """Weights are not what their catalogue entry says; the message has both values of each
    mismatch."""


def weights_location(entry: CatalogueEntry) -> str:
    """Returns the folder or the repository of an entry's weights."""
    if entry.embedded is None:
        return entry.weights
    return str(tiny_model_folder(entry.embedded))


def check_claims(entry: CatalogueEntry) -> None:
    """Compares an entry with the small files of its weights and its tokenizer, which are downloaded
    if they are not here yet. Raises ClaimsError. What cannot be checked is logged: a file that the
    weights do not have, or that cannot be read now, which is for vLLM to report."""
    weights, names = weights_location(entry), _network_names(entry)
    network = network_file(entry)
    tokenizer = entry.tokenizer_repository or weights
    revision = entry.tokenizer_revision if entry.tokenizer_repository else entry.revision
    tekken = _first(tokenizer, revision, (TEKKEN,))
    if network is None:
        _unchecked(entry, "context_tokens and image_limit", weights, names)
    if tekken is None:
        _unchecked(entry, f"tokenizer {entry.tokenizer}", tokenizer, (TEKKEN,))
    template = _template(weights, entry.revision)
    if found := mismatches(entry, network, tekken, template=template):
        raise ClaimsError(
            f"{entry.id}: the weights at {weights} are not as the catalogue says: "
            f"{'; '.join(found)}. Set the weights that the entry describes, or correct the values "
            "in a file of your own (`model: my-model.yaml`)."
        )


def network_file(entry: CatalogueEntry) -> WeightsFile | None:
    """Returns the file that describes the network of an entry's weights, which is downloaded if it
    is not here yet; None if there is none, or it cannot be read now. Raises ClaimsError."""
    return _first(weights_location(entry), entry.revision, _network_names(entry))


def _network_names(entry: CatalogueEntry) -> tuple[str, ...]:
    return (CONFIG,) if vllm_flags(entry).get("config-format") == "hf" else (PARAMS, CONFIG)


def _unchecked(entry: CatalogueEntry, claim: str, location: str, names: tuple[str, ...]) -> None:
    log.warning("%s: %s is not checked: no %s at %s", entry.id, claim, " or ".join(names), location)


def _template(location: str, revision: str | None) -> str | None:
    """Returns the chat template that is here beside weights, if Hugging Face's libraries have
    written one. None is downloaded: Mistral's own weights have none."""
    path = _path_here(location, revision, TEMPLATE)
    if path is not None:
        return path.read_text()
    path = _path_here(location, revision, TOKENIZER_CONFIG)
    if path is None:
        return None
    templates = _content(path).get("chat_template")
    if isinstance(templates, list):  # by names
        return "".join(str(one.get("template")) for one in templates)
    return templates if isinstance(templates, str) else None


def _first(location: str, revision: str | None, names: tuple[str, ...]) -> WeightsFile | None:
    """Returns the first of these files that is there."""
    for name in names:
        path = _path(location, revision, name)
        if path is not None and path.is_file():
            return WeightsFile(name, _content(path))
    return None


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError:
        raise ClaimsError(f"{path}: not JSON; copy or download it again") from None
    return content


def _path_here(location: str, revision: str | None, name: str) -> Path | None:
    """Returns the path of a file that is on this machine already."""
    if Path(location).is_dir():
        path = Path(location) / name
        return path if path.is_file() else None
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(location, name, revision=revision)
    except errors.HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _path(location: str, revision: str | None, name: str) -> Path | None:
    if Path(location).is_dir():
        return Path(location) / name
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(location, name, revision=revision))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, RuntimeError) as error:
        log.info("%s of %s: %s", name, location, error)
        return None
