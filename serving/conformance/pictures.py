"""Pictures for requests, made without an image library."""

import base64
import struct
import zlib

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def picture(rgb: RGB = COLOURS["red"], width: int = 56, height: int = 56) -> str:
    """A PNG of one colour, as a data URL."""
    row = b"\0" + bytes(rgb) * width
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
