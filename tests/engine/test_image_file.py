"""The validation of image files by their bytes."""

import io
import struct
import zlib

import pytest
from PIL import Image

from serving.engine.image_file import MediaError, check_image
from serving.engine.media import ImageFetcher
from tests.engine.pictures import PNG, data_url, encoded
from tests.engine.web import refused


@pytest.mark.parametrize("format", ["BMP", "TIFF", "PPM", "ICO"])
async def test_other_formats(format: str) -> None:
    assert "is not a PNG, JPEG, WebP or GIF" in await refused(
        ImageFetcher(), data_url(encoded(format, (16, 16)))
    )


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"]
)
async def test_what_is_no_image(data: bytes) -> None:
    assert "is not a PNG, JPEG, WebP or GIF" in await refused(ImageFetcher(), data_url(data))


async def test_whatever_a_decoder_raises_is_a_damaged_image() -> None:
    def decode(data: bytes) -> None:
        raise struct.error

    with pytest.raises(MediaError, match="it is damaged"):
        await ImageFetcher().load(data_url(PNG), decode)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(9))


@pytest.mark.parametrize("size", [(50_001, 1000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_more_pixels_than_the_limit_by_the_header_alone(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="more than 50,000,000 pixels"):
        check_image(png_header(*size), 50_000_000)


async def test_a_decompression_bomb_is_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000
    assert "more than 50,000,000 pixels" in await refused(
        ImageFetcher(), data_url(buffer.getvalue())
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_limit_of_pixels_in_each_format(format: str) -> None:
    image = encoded(format, (30, 20))
    check_image(image, 600)
    with pytest.raises(MediaError, match="more than 599 pixels"):
        check_image(image, 599)


def test_a_jpeg_of_endless_scans() -> None:
    image = encoded("JPEG", (64, 64), progressive=True)
    last_scan = image[image.rindex(b"\xff\xda") : -2]
    check_image(image[:-2] + last_scan * 20 + image[-2:], 4096)
    for filler in (b"", b"\xff", b"\xff\x01", b"\xff\xd0"):
        with pytest.raises(MediaError, match="scans"):
            check_image(image[:-2] + (filler + last_scan) * 100 + image[-2:], 4096)


def test_a_jpeg_with_a_thumbnail_and_a_film_appended() -> None:
    many = b"\xff\xda\0\2" * 1000
    image = encoded("JPEG", (64, 64), comment=many, progressive=True)
    check_image(image + bytes(2) + many, 4096)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:", "must have the form"),
        ("data:image/png;base64", "must have the form"),
        ("data:image/png,hello", "must have the form"),
        ("data:image/png;base64;x,AAAA", "must have the form"),
        ("data:text/html;base64,AAAA", "content type is text/html"),
        ("data:image/png;base64,@@@@", "base64 is malformed"),
        ("data:image/png;base64,AAA", "base64 is malformed"),
        ("data:image/png;base64,AAAA=AAA", "base64 is malformed"),
        ("data:image/png;base64,ééé", "base64 is malformed"),
        ("data:image/png;base64,", "is not a PNG"),
    ],
)
async def test_data_urls_that_are_not_taken(url: str, reason: str) -> None:
    assert reason in await refused(ImageFetcher(), url)
