"""Shows PNGs as they look where Pillow's conversion to RGB gives other colours."""

import contextlib
import io

import numpy as np
from PIL import Image, ImageOps

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STEPS = {"L;2": 85, "L;4": 17}
"""The difference between two neighbouring values that Pillow gives to pixels of fewer than 8 bits,
by their raw mode."""
_RGB_OF_16_BITS = "RGB;16B"
"""The raw mode of colours of which Pillow keeps the upper byte."""


def corrected(data: bytes, background: tuple[int, int, int]) -> Image.Image | None:
    """Returns the picture of a PNG with 16 bits of grey, which Pillow clips to 8, or with a colour
    that is transparent, which Pillow does not find or vLLM shows; None for any other file."""
    if not data.startswith(_SIGNATURE):
        return None
    image: Image.Image
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        raw, transparent = str(image.tile[0].args), image.info.get("transparency")
        wide = image.mode.startswith("I")
        if not wide and (transparent is None or not (image.mode == "RGB" or raw in _STEPS)):
            return None
        with contextlib.suppress(Exception):  # as vLLM, whatever is wrong with the file's EXIF
            image = ImageOps.exif_transpose(image)
        pixels = np.asarray(image)
    picture = Image.fromarray((pixels >> 8).astype(np.uint8) if wide else pixels).convert("RGB")
    if transparent is not None:
        colour = np.asarray(transparent) * _STEPS.get(raw, 1)
        hidden = pixels == (colour >> 8 if raw == _RGB_OF_16_BITS else colour)
        mask = hidden.all(axis=2) if hidden.ndim == 3 else hidden
        picture.paste(background, mask=Image.fromarray(mask))
    return picture
