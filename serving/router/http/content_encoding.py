"""Request bodies that the client has compressed (RFC 9110, 8.4)."""

import zlib

import zstandard

from serving.router.http import protocol_errors

_GZIP, _ZLIB, _RAW = 31, 15, -15  # `wbits` of zlib
_MOST_MEMBERS = 16
"""Members of a gzip body: each has the rest of the body copied, so their number is an attack."""
_ZSTD_WINDOW_BYTES = 8 << 20  # what RFC 8878, 3.1.1.1.2 recommends to accept


def decompress(body: bytes, coding: bytes, limit_bytes: int) -> bytes:
    """Returns the decompressed body. Raises ApiError 413 if it exceeds the limit, without
    decompressing more than that; 415 for an unknown coding; 400 if the body is damaged."""
    try:
        match coding.strip().lower():
            case b"gzip" | b"x-gzip":
                plain = _inflate(body, _GZIP, limit_bytes)
            case b"deflate":
                # Some clients leave out zlib's header: bit 3 of its first byte is always set.
                is_zlib = body[:1] and body[0] & 0x0F == 8
                plain = _inflate(body, _ZLIB if is_zlib else _RAW, limit_bytes)
            case b"zstd":
                plain = _unzstd(body, limit_bytes)
            case b"" | b"identity":
                return body
            case _:
                raise protocol_errors.unsupported_content_encoding(coding.decode("latin-1"))
    except (zlib.error, zstandard.ZstdError):
        raise protocol_errors.damaged_body(coding.decode("latin-1")) from None
    if len(plain) > limit_bytes:
        raise protocol_errors.body_too_large(limit_bytes)
    return plain


def _inflate(body: bytes, wbits: int, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for _ in range(_MOST_MEMBERS):
        inflater = zlib.decompressobj(wbits)
        pieces.append(inflater.decompress(body, limit_bytes - size + 1))
        size += len(pieces[-1])
        if not inflater.eof and size <= limit_bytes:
            raise zlib.error("the data ends too early")
        body = inflater.unused_data
        if not body or size > limit_bytes:
            return b"".join(pieces)
    raise zlib.error("the data has too many members")


def _unzstd(body: bytes, limit_bytes: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        return reader.read(limit_bytes + 1)
