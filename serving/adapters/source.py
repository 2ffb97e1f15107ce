"""Where the files of an adapter come from."""

import re

from pydantic import model_validator

from serving.section import Section, wrong

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
URL_SCHEMES = ("https://", "http://")


class Source(Section):
    """A version of an adapter: adapter_config.json and adapter_model.safetensors as PEFT writes
    them."""

    source: str
    """A folder that routers and engines see under the same path, a Hugging Face repository, or the
    URL of a tar archive, which `mistral-serve weights` and `adapters add` bring to the volume of
    the weights."""
    revision: str | None = None
    """Commit of the repository, which must be given, so that no name changes what it means."""
    sha256: str | None = None
    """Checksum of the archive, which must be given for the same reason."""

    @model_validator(mode="after")
    def _source_is_pinned(self) -> "Source":
        is_repository = not self.is_folder and not self.is_archive
        if self.revision is not None and not is_repository:
            raise wrong("revision", "only a repository has one")
        if self.sha256 is not None and not self.is_archive:
            raise wrong("sha256", "only an archive at a URL has one")
        if self.is_archive and not _SHA256.fullmatch(self.sha256 or ""):
            raise wrong("sha256", "an archive needs its SHA-256, as 64 hex digits")
        if not is_repository:
            return self
        if not _REPOSITORY.fullmatch(self.source):
            raise wrong(
                "source",
                "allowed is an absolute path of a folder, a repository as owner/name, or a URL "
                f"(got '{self.source}')",
            )
        if self.revision is None or not _COMMIT.fullmatch(self.revision):
            raise wrong("revision", "a repository needs the commit to take, as 40 hex digits")
        return self

    @property
    def is_folder(self) -> bool:
        return self.source.startswith("/")

    @property
    def is_archive(self) -> bool:
        return self.source.startswith(URL_SCHEMES)

    @property
    def pin(self) -> str | None:
        """What the content of the source is known by; None for a folder."""
        return self.sha256 if self.is_archive else self.revision
