"""PNGs of all kinds of pixels are seen as a browser shows them, over white."""

import struct
import zlib
from typing import Any

import pytest
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from serving.engine.vllm.image_connector import ImageConnector
from tests.engine.pictures import data_url, encoded

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
WHITE = (255, 255, 255)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    kind: int, bits: int, row: bytes, transparent: tuple[int, ...] = (), more: bytes = b""
) -> bytes:
    """Returns a file of two equal rows, whose colour `transparent` is transparent."""
    width = 8 * len(row) // (bits * {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}[kind])
    header = struct.pack(">2I5B", width, 2, bits, kind, 0, 0, 0)
    key = struct.pack(f">{len(transparent)}H", *transparent)
    chunks = [
        chunk(b"IHDR", header),
        more,
        chunk(b"tRNS", key) if transparent else b"",
        chunk(b"IDAT", zlib.compress((b"\0" + row) * 2)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


async def seen(data: bytes) -> Image.Image:
    image = await ImageConnector().load_from_url_async(data_url(data), ImageMediaIO())
    assert image.media.mode == "RGB"
    return image.media  # type: ignore[no-any-return]


async def colours(data: bytes) -> list[Any]:
    """Returns the colours of the first row of pixels."""
    image = await seen(data)
    return [image.getpixel((x, 0)) for x in range(image.width)]


def grey(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(GREY, 16, struct.pack(">4H", 0, 300, 0x8000, 0xFFFF)), grey(0, 1, 128, 255)),
        (png(GREY, 16, struct.pack(">2H", 300, 301), (300,)), grey(255, 1)),
        (png(GREY, 8, bytes([7, 8]), (7,)), grey(255, 8)),
        (png(GREY, 4, b"\x56", (5,)), grey(255, 102)),
        (png(GREY, 2, b"\x1b", (1,)), grey(0, 255, 170, 255)),
        (png(GREY, 1, b"\x0f", (0,)), grey(*[255] * 8)),
        (png(RGB, 8, b"\xff\0\0\xff\0\1", (255, 0, 0)), [WHITE, (255, 0, 1)]),
        (
            png(RGB, 16, struct.pack(">6H", 0x8000, 0, 0xFFFF, 0x8100, 0, 0), (0x8000, 0, 0xFFFF)),
            [WHITE, (129, 0, 0)],
        ),
        (png(GREY_ALPHA, 16, struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0)), grey(128, 255)),
        (png(RGBA, 8, b"\xff\0\0\xff\xff\0\0\0"), [(255, 0, 0), WHITE]),
        (png(RGB, 8, b"\xff\0\0\0\0\xff"), [(255, 0, 0), (0, 0, 255)]),
        (png(GREY, 8, bytes([7, 8])), grey(7, 8)),
    ],
)
async def test_pixels(data: bytes, expected: list[Any]) -> None:
    assert await colours(data) == expected


@pytest.mark.parametrize(
    ("format", "mode", "colour", "options"),
    [
        ("PNG", "P", 0, {"transparency": 0}),
        ("PNG", "LA", (0, 0), {}),
        ("WEBP", "RGBA", (255, 0, 0, 0), {"lossless": True}),
        ("GIF", "L", 0, {"transparency": 0}),
    ],
)
async def test_what_is_transparent_is_white(
    format: str, mode: str, colour: Any, options: dict[str, Any]
) -> None:
    assert set(await colours(encoded(format, mode=mode, colour=colour, **options))) == {WHITE}


async def test_a_jpeg_of_printing_colours() -> None:
    data = encoded("JPEG", mode="CMYK", colour=(0, 255, 255, 0))
    assert set(await colours(data)) == {(255, 0, 0)}


async def test_a_picture_that_is_to_be_turned_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = chunk(b"eXIf", exif.tobytes()[6:])
    image = await seen(png(GREY, 16, struct.pack(">4H", *[0x8000] * 4), more=turned))
    assert (image.size, image.getpixel((0, 0))) == ((2, 4), (128, 128, 128))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
async def test_a_picture_with_damaged_exif_is_seen() -> None:
    broken = chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")
    assert (await seen(png(GREY, 16, b"\x80\0" * 4, more=broken))).size == (4, 2)
