"""Validates image files, which are untrusted: a few bytes must not cost much memory or time."""

import io
import re

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Accepted image formats, by Pillow's names: the four that OpenAI accepts."""

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A segment marker: two bytes that do not occur in the data of a scan."""
_JPEG_SCANS = 100
"""Limit on the scans of a JPEG. A decoder processes the whole picture for each scan, however short:
20 ms at 50 million pixels, and 20 MiB can hold a quarter of a million scans. Encoders write about
ten."""


class MediaError(ValueError):
    """An image was rejected. The message is for the client: it says which image and why, and
    reveals nothing about this network. `url` is the image's, as the client sent it."""

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message)
        self.url = url


def check_image(data: bytes, max_pixels: int) -> int:
    """Returns the number of pixels that an image's header declares. Raises MediaError unless `data`
    begins as an image in one of FORMATS with at most `max_pixels`."""
    if data.startswith(_JPEG_START):
        _check_scans(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(max_pixels) from None
    except Exception:  # hostile bytes make decoders raise anything
        raise MediaError("it is not a PNG, JPEG, WebP or GIF image") from None
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)
    return width * height


def _check_scans(jpeg: bytes) -> None:
    # The scans of the picture itself, not of a thumbnail or of data that a camera appends.
    scans, at = 0, len(_JPEG_START)
    while marker := _JPEG_MARKER.search(jpeg, at):
        at = marker.end()
        kind = jpeg[at - 1]
        if kind == _JPEG_END:
            return
        scans += kind == _JPEG_SCAN
        if scans > _JPEG_SCANS:
            raise MediaError(f"it has more than {_JPEG_SCANS} scans")
        at += int.from_bytes(jpeg[at : at + 2], "big")


def _too_many_pixels(max_pixels: int) -> MediaError:
    return MediaError(f"it has more than {max_pixels:,} pixels")
