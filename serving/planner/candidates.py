"""The ways to serve a model on GPUs of a type."""

from collections.abc import Iterable, Iterator

from serving.catalogue import CatalogueEntry, CatalogueFile

SIZES = ((1, 2), (4, 8))
"""Tensor parallel sizes: first those with published speeds, then those that are tried only if none
of the former suffices. By formula the latter always look as good, which they never are."""
_CONTEXT_STEP = 4096


def candidates(
    file: CatalogueFile,
    gpu: str | float,
    sizes: Iterable[int],
    variant: str | None,
    context_tokens: int | None,
) -> Iterator[CatalogueEntry]:
    """Yields each build of the weights in each tensor parallel size. Without `context_tokens` the
    context is the model's own or, if that does not fit, the longest that does, in steps of 4,096.
    An entry that does not fit is yielded too: it holds no context at all, or not the requested one.
    Raises KeyError for an unknown variant, CatalogueError."""
    seen = set()
    names = [variant] if variant is not None else list(file.variants or [None])
    entries = [file.entry(name) for name in names]
    for size in sizes:
        # Where two variants are the same build, the one that is meant for the size gives its name.
        for entry in sorted(entries, key=lambda entry: entry.tensor_parallel_size != size):
            build = (entry.weights, entry.weights_dtype, entry.kv_cache_dtype, size)
            if build in seen or (entry.network and entry.network.kv_heads % size):
                continue
            seen.add(build)
            on = entry.on(gpu=gpu, tensor_parallel_size=size, context_tokens=context_tokens)
            yield on if context_tokens is not None else _with_a_context_that_fits(on)


def _with_a_context_that_fits(entry: CatalogueEntry) -> CatalogueEntry:
    memory = entry.memory()
    if memory is None or memory.fits or memory.kv_tokens < _CONTEXT_STEP:
        return entry
    return entry.on(context_tokens=memory.kv_tokens // _CONTEXT_STEP * _CONTEXT_STEP)
