"""The estimate of how much text there is: near enough for a time left, and never in the way."""

import gzip
import random
from pathlib import Path

import pytest
import zstandard

from megatron_style_data.input_size import estimated_text_bytes
from megatron_style_data.readers import InputFile

TEXT = "".join(random.Random(1).choices("天地玄黄宇宙洪荒日月盈昃辰宿列张\n", k=600_000)).encode()


def streamed_zstd(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress, streamed_zstd])
def test_the_estimate_is_near(tmp_path: Path, pack: object) -> None:
    (tmp_path / "a").write_bytes(pack(TEXT))  # type: ignore[operator]
    assert estimated_text_bytes([InputFile(tmp_path / "a", "a", "text")] * 2) == pytest.approx(2 * len(TEXT), rel=0.1)


def test_a_file_that_cannot_be_read_does_not_stop_the_estimate(tmp_path: Path) -> None:
    assert estimated_text_bytes([InputFile(tmp_path, "folder", "text")]) == 0


def test_a_damaged_file_does_not_stop_the_estimate(tmp_path: Path) -> None:
    for start in (b"\x1f\x8b", b"\x28\xb5\x2f\xfd"):
        (tmp_path / "a").write_bytes(start + b"\xff" * 100)
        assert estimated_text_bytes([InputFile(tmp_path / "a", "a", "text")]) > 0
