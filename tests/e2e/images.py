"""Images for requests, as data URLs."""

import base64
import io

from PIL import Image


def solid(color: str, size: tuple[int, int] = (56, 56)) -> str:
    return data_url(Image.new("RGB", size, color))


def noise(size: tuple[int, int] = (112, 84)) -> str:
    return data_url(Image.effect_noise(size, 60).convert("RGB"))


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
