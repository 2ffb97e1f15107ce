"""The system prompt that a model's makers recommend."""

from pathlib import Path

from serving.catalogue.entry import CatalogueEntry
from serving.tiny import tiny_model_folder

FILE_NAME = "SYSTEM_PROMPT.txt"


class SystemPromptError(Exception):
    """There is no default system prompt; the message says where it was looked for."""


def default_system_prompt(entry: CatalogueEntry) -> str:
    """The entry's template, else the SYSTEM_PROMPT.txt of the weights' folder or repository, which
    is downloaded to Hugging Face's cache if it is not there. Raises SystemPromptError."""
    if entry.system_prompt is not None:
        return entry.system_prompt
    try:
        return _file(entry).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # the base classes of the hub's own errors
        raise SystemPromptError(
            f"{entry.id} has no default system prompt: no {FILE_NAME} from "
            f"{entry.tokenizer_repository or entry.weights}: {error}. "
            "Set default_system_prompt to false, or write system_prompt in a file of the model."
        ) from None


def _file(entry: CatalogueEntry) -> Path:
    if entry.kind == "openai":
        raise FileNotFoundError("its weights are elsewhere")
    if entry.embedded:
        return tiny_model_folder(entry.embedded) / FILE_NAME
    # A quantised copy has its tokenizer from the base repository, and may lack the prompt.
    source = entry.tokenizer_repository or entry.weights
    revision = entry.tokenizer_revision if entry.tokenizer_repository else entry.revision
    if Path(source).is_dir():
        return Path(source) / FILE_NAME
    from huggingface_hub import hf_hub_download  # takes a second to import

    return Path(hf_hub_download(source, FILE_NAME, revision=revision))
