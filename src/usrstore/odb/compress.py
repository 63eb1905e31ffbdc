"""zstd level 1, and only where it pays ([F-43]).

Parquet pages are compressed already (a try gains 0.02 %), JSON lines and CSV shrink to a
quarter; the middle 4 KiB of a chunk tells which it is for a twentieth of the price.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from usrstore.errors import DecodeError

if TYPE_CHECKING:
    from zstandard import ZstdCompressor, ZstdDecompressor

RAW, ZSTD = 0, 1
_LEVEL = 1
_PROBE_BYTES = 4096
_MIN_BYTES = 256
_PAYS = 0.95
_FRAME = b"\x28\xb5\x2f\xfd"  # what every Zstandard frame begins with
_local = threading.local()

Shrunk = tuple[int, bytes | memoryview]
"""An encoding, and the bytes in it."""


def shrink(data: bytes | memoryview) -> Shrunk:
    """How to store `data`: RAW as it is, or ZSTD and the compressed bytes."""
    size = len(data)
    if size < _MIN_BYTES:
        return RAW, data
    compressor = _compressor()
    if size > 4 * _PROBE_BYTES:
        middle = size // 2
        probe = compressor.compress(data[middle : middle + _PROBE_BYTES])
        if len(probe) > _PAYS * _PROBE_BYTES:
            return RAW, data
    packed: bytes = compressor.compress(data)
    return (ZSTD, packed) if len(packed) <= _PAYS * size else (RAW, data)


def expand(encoding: int, stored: bytes | memoryview, size: int) -> bytes | memoryview:
    """The `size` bytes that were stored; never allocates more than `size` says.

    Raises:
        DecodeError: unknown encoding, damage, or a stream that would grow beyond `size`.
    """
    if encoding == RAW:
        if len(stored) != size:
            raise DecodeError(f"{len(stored)} bytes where {size} were promised")
        return stored
    if encoding != ZSTD:
        raise DecodeError(f"unknown encoding {encoding}")
    import zstandard

    try:
        if zstandard.frame_content_size(stored) != size:
            raise DecodeError(f"a compressed chunk that does not hold {size} bytes")
        data: bytes = _decompressor().decompress(
            stored, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        raise DecodeError(f"a damaged compressed chunk: {exc}") from exc
    if len(data) != size:
        raise DecodeError(f"a compressed chunk of {len(data)} bytes, not {size}")
    return data


def frame(data: bytes | memoryview, most: int) -> tuple[bytes, int] | None:
    """The compressed object that `data` begins with, and how many bytes of `data` it takes.

    None if it begins with none, or with one of more than `most` bytes.
    """
    if bytes(data[:4]) != _FRAME:
        return None
    import zstandard

    try:
        size = zstandard.frame_content_size(data)
        if not 0 < size <= most:
            return None
        one = zstandard.ZstdDecompressor().decompressobj()
        plain: bytes = one.decompress(bytes(data))
    except zstandard.ZstdError:
        return None
    whole = one.eof and len(plain) == size
    return (plain, len(data) - len(one.unused_data)) if whole else None


def _compressor() -> ZstdCompressor:
    if not hasattr(_local, "compressor"):
        import zstandard

        _local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return cast("ZstdCompressor", _local.compressor)


def _decompressor() -> ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        import zstandard

        _local.decompressor = zstandard.ZstdDecompressor()
    return cast("ZstdDecompressor", _local.decompressor)
