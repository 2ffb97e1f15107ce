"""Image files and data URLs."""

import base64
import io
from typing import Any

from PIL import Image


def encoded(
    format: str = "PNG",
    size: tuple[int, int] = (3, 2),
    mode: str = "RGB",
    colour: Any = "red",
    **kwargs: Any,
) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format, **kwargs)
    return buffer.getvalue()


def data_url(data: bytes, head: str = "image/png;base64") -> str:
    return f"data:{head},{base64.b64encode(data).decode()}"


PNG = encoded()
