"""Archives of adapters at URLs, and where their files are on the volume of the weights."""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from serving.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterError

_FOLDER = "adapters"
_TIMEOUT_S = 60
_FILES = (CONFIG_FILE, WEIGHTS_FILE)


def archive_folder(sha256: str) -> Path:
    """Returns the folder of the files of an archive, beside Hugging Face's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / _FOLDER / sha256


def fetch_archive(url: str, sha256: str, say: Callable[[str], None]) -> None:
    """Downloads an archive unless it is here, verifies it, and takes the files of the adapter out
    of it. Raises AdapterError."""
    import httpx  # which only those that download need

    folder = archive_folder(sha256)
    if folder.is_dir():
        say(f"{url}: present and already verified")
        return
    say(f"{url}: downloading")
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{sha256[:12]}-", dir=folder.parent))
        archive = partial / "archive"
        found = _download(url, archive)
        if found != sha256:
            raise AdapterError(
                f"{url} has the SHA-256 {found}, and {sha256} is declared: it has changed, or the "
                "declaration is wrong"
            )
        _take_out(url, archive, partial)
        archive.unlink()
        partial.chmod(0o755)
        if not folder.is_dir():  # Else another process was faster.
            partial.rename(folder)
    except httpx.HTTPError as error:
        raise AdapterError(f"{url} cannot be downloaded: {error}") from None
    except OSError as error:
        raise AdapterError(f"{url}: {error.filename}: {error.strerror}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    say(f"{url}: complete")


def _download(url: str, to: Path) -> str:
    """Returns the SHA-256 of what was downloaded."""
    import httpx

    digest = hashlib.sha256()
    with (
        httpx.stream("GET", url, timeout=_TIMEOUT_S, follow_redirects=True) as response,
        to.open("wb") as file,
    ):
        response.raise_for_status()
        for piece in response.iter_bytes():
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _take_out(url: str, archive: Path, to: Path) -> None:
    """Takes the two files of an adapter out of an archive, wherever they lie in it."""
    taken = set()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name not in _FILES or not member.isfile():
                    continue
                if name in taken:
                    raise AdapterError(f"{url} has more than one {name}: pack one adapter only")
                taken.add(name)
                content = tar.extractfile(member)
                assert content is not None
                with (to / name).open("wb") as file:
                    shutil.copyfileobj(content, file, 1024**2)
    except (tarfile.TarError, EOFError) as error:
        raise AdapterError(f"{url} is no tar archive: {error}") from None
    if lacking := set(_FILES) - taken:
        raise AdapterError(f"{url} has no {' and no '.join(sorted(lacking))}")
