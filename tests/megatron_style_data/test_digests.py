"""Checksums by block: the same however the bytes arrive, and telling which block differs."""

import pytest
import xxhash

from megatron_style_data.digests import BlockDigest, block_bytes_for, differing_blocks

DATA = bytes(range(256)) * 40


def digest_of(data: bytes, piece: int, block_bytes: int = 1000) -> BlockDigest:
    digest = BlockDigest(block_bytes)
    for start in range(0, len(data), piece):
        digest.update(data[start : start + piece])
    return digest


@pytest.mark.parametrize("piece", [1, 7, 999, 1000, 1001, 5000, 10240])
def test_checksums_do_not_depend_on_the_pieces_the_bytes_come_in(piece: int) -> None:
    digest = digest_of(DATA, piece)
    blocks = [DATA[start : start + 1000] for start in range(0, len(DATA), 1000)]
    assert digest.whole == xxhash.xxh3_128_hexdigest(DATA)
    assert digest.blocks == "".join(xxhash.xxh3_64_hexdigest(block) for block in blocks)
    assert digest.bytes == len(DATA)


def test_a_changed_byte_changes_its_block_only() -> None:
    changed = DATA[:4321] + b"?" + DATA[4322:]
    assert differing_blocks(digest_of(changed, 512).blocks, digest_of(DATA, 512).blocks) == [4]


@pytest.mark.parametrize("file_bytes", [0, 1, 1 << 28, (1 << 28) + 1, 10**12])
def test_blocks_are_few_enough_for_the_manifest(file_bytes: int) -> None:
    size = block_bytes_for(file_bytes)
    assert size >= 1 << 16
    assert file_bytes / size <= 4096
    assert size == 1 << 16 or file_bytes / (size / 2) > 4096
