"""GPU types by name, and the memory that CUDA can give on each."""

USABLE_GIB = {
    "A10G": 22.1,
    "A100-40GB": 39.4,
    "A100-80GB": 79.2,
    "H100-80GB": 79.6,
    "H200": 139.8,
    "L40S": 44.5,
    "RTX-4090": 23.6,
}
"""GiB, as nvidia-smi or CUDA's out-of-memory messages give the total: less than a name's GB, of
which ECC and firmware take their share.
"""


def usable_gib(gpu: str | float) -> float:
    """Of a type, or the number itself where a GPU is given by its memory. Raises KeyError."""
    return USABLE_GIB[gpu] if isinstance(gpu, str) else gpu
