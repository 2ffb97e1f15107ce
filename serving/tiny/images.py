"""Small pictures for the vision cases: solid colours, noise, gradients and boxes."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from .prompts import Dice

Pixels = npt.NDArray[np.uint8]

# Each colour has a few typical RGB values; jitter is added on top.
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 30, 30), (200, 20, 20)),
    "green": ((0, 128, 0), (0, 255, 0), (40, 170, 60)),
    "blue": ((0, 0, 255), (30, 60, 210), (20, 40, 170)),
    "yellow": ((255, 255, 0), (245, 225, 40)),
    "black": ((0, 0, 0), (20, 20, 20)),
    "white": ((255, 255, 255), (240, 240, 240)),
    "orange": ((255, 165, 0), (245, 140, 20)),
    "purple": ((128, 0, 128), (130, 40, 160)),
}
_JITTER = 12


def solid_image(rgb: tuple[int, int, int], width: int, height: int) -> Pixels:
    """An image of one colour; shape (height, width, 3)."""
    return np.full((height, width, 3), rgb, dtype=np.uint8)


def colour_image(dice: Dice, colour: str, width: int, height: int) -> Pixels:
    """A solid image in some shade of a colour from ``COLOURS``."""
    shade = dice.choice(COLOURS[colour])
    red, green, blue = (min(255, max(0, c + dice.randint(-_JITTER, _JITTER))) for c in shade)
    return solid_image((red, green, blue), width, height)


def scene_image(dice: Dice, width: int, height: int) -> Pixels:
    """A picture without meaning: noise, a gradient, boxes, or one colour."""
    kind = dice.randrange(4)
    if kind == 0:
        return colour_image(dice, dice.choice(list(COLOURS)), width, height)
    noise = np.random.default_rng(dice.getrandbits(32))
    if kind == 1:
        return noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
    start, end = noise.integers(0, 256, (2, 3))
    ramp = np.linspace(0.0, 1.0, width)[None, :, None]
    pixels = np.broadcast_to(start + (end - start) * ramp, (height, width, 3)).astype(np.uint8)
    for _ in range(4 if kind == 3 else 0):
        top, left = dice.randrange(height), dice.randrange(width)
        pixels[top : top + height // 3, left : left + width // 3] = noise.integers(0, 256, 3)
    return pixels


def small_size(dice: Dice) -> tuple[int, int]:
    """Width and height in pixels: one to three image tokens per side."""
    longest = 50 if dice.plain else 84
    return dice.randint(20, longest), dice.randint(20, longest)


def random_size(dice: Dice) -> tuple[int, int]:
    """Width and height in pixels: mostly two or three image tokens per side, sometimes up to 448
    pixels."""
    if dice.plain or dice.random() < 0.8:
        return small_size(dice)
    longest = dice.choices((140, 224, 448), weights=(10, 9, 1))[0]
    return dice.randint(20, longest), dice.randint(20, longest)


def png_data_url(pixels: Pixels) -> str:
    """The picture as a ``data:image/png;base64,`` URL for an ``image_url`` part."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
