"""Roughly how much text files hold, for the time left of a build; never used for anything that must be right."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import zstandard

from megatron_style_data.readers import InputFile

_SAMPLED_BYTES = 1 << 18


def estimated_text_bytes(files: Iterable[InputFile]) -> int:
    """Bytes of all files after decompression, judged by the first 256 KiB of each compressed one."""
    return sum(int(file.path.stat().st_size * _expansion(file.path)) for file in files)


def _expansion(path: Path) -> float:
    with open(path, "rb") as file:
        start = file.read(_SAMPLED_BYTES)
    try:
        if start.startswith(b"\x1f\x8b"):
            return len(zlib.decompressobj(31).decompress(start)) / len(start)
        if start.startswith(b"\x28\xb5\x2f\xfd"):
            return len(zstandard.ZstdDecompressor().decompressobj().decompress(start)) / len(start)
    except (zlib.error, zstandard.ZstdError):
        return 1.0  # the reader will say what is wrong with the file
    return 1.0
