"""Roughly how much text files hold, for the time left of a build; never used for anything that must be right."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import zstandard

from megatron_style_data.readers import InputFile

_SAMPLED_BYTES = 1 << 18
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def estimated_text_bytes(files: Iterable[InputFile]) -> int:
    """Bytes of all files after decompression: as they say themselves, else judged by their first 256 KiB."""
    return sum(_decompressed_bytes(file.path) for file in files)


def _decompressed_bytes(path: Path) -> int:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(_SAMPLED_BYTES)
    except OSError:
        return 0  # the reader will say what is wrong with the file
    try:
        if start.startswith(_ZSTD):
            said = zstandard.get_frame_parameters(start).content_size
            sampled = zstandard.ZstdDecompressor().decompressobj().decompress(start)
            return said if size > len(start) and 0 < said < 1 << 62 else size * len(sampled) // len(start)
        if start.startswith(_GZIP):
            return size * len(zlib.decompressobj(31).decompress(start)) // len(start)
    except (zlib.error, zstandard.ZstdError):
        return size  # here too
    return size
