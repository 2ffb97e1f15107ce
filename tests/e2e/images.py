"""Images for requests, as data URLs."""

import numpy as np

from serving.tiny.images import COLOURS, png_data_url, solid_image


def solid(colour: str) -> str:
    return png_data_url(solid_image(COLOURS[colour][0], 56, 56))


def noise() -> str:
    return png_data_url(np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8))
