"""What is known of one shard's documents for comparing, in a folder of its own: written once, in bounded memory.

A shard is independent of all others, so its folder can be written by any process on any machine. All files are arrays
in the machine's byte order, one entry a document in the shard's order:

- ``keys``: (documents, 2) uint64, XXH3-128 of the folded characters (of the bytes as they are where nothing is left).
- ``lengths``: uint32, folded characters. ``places``: uint64, line or row from 1.
- ``signatures``: (documents, permutations) uint32.
- ``bands``: blocks of documents, one (bands, documents of the block) uint64 after the other, so that a band is read in
  a few long pieces.
- ``shard.json``: counts, the documents of each block, and what they were made with.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_folder, atomic_write_json
from megatron_style_data.deduplication.minhash import FoldedTexts, MinHash, band_keys, minhash_for
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import Shard, state_of
from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import ReadCounters

_BLOCK_DOCUMENTS = 1 << 16
_BLOCK_CHARACTERS = 1 << 20
_MADE_WITH = ("threshold or shingle", "size of the file", "time of change of the file", "way of reading")
_NAMES = ("keys", "lengths", "places", "signatures", "bands")


@dataclass(frozen=True, slots=True)
class SignatureJob:
    """One shard to be read.

    Attributes:
        shard: The shard.
        settings: The settings.
        folder: Receives its signatures.
    """

    shard: Shard
    settings: DuplicateSettings
    folder: Path

    def made_with(self) -> list[Any]:
        """What must be the same for signatures to be taken as they are: the settings, the file, how it is read.

        Raises:
            MissingInputError: The shard's file does not exist.
        """
        return [self.settings.fingerprint, *state_of(self.shard.path), repr(self.shard)]


def write_signatures(job: SignatureJob) -> int:
    """Writes the folder of one shard, or leaves it where it is up to date; the number of its documents.

    Raises:
        UserError: What reading the shard raises; StorageError when the folder cannot be written.
    """
    made_with = job.made_with()
    there = _description(job.folder)
    if there is not None and there["made_with"] == made_with:
        return int(there["documents"])
    minhash = minhash_for(job.settings, job.shard.path.stat().st_size)
    counters = ReadCounters()
    blocks: list[int] = []
    with atomic_folder(job.folder, replace=True) as folder:
        with ExitStack() as stack:
            files = {name: stack.enter_context(open(folder / name, "wb")) for name in _NAMES}
            for texts, places in _blocks(job.shard, counters):
                _write_block(files, texts, places, minhash, job.settings)
                blocks.append(len(texts))
        description = {
            "documents": sum(blocks),
            "blocks": blocks,
            "made_with": made_with,
            "read": asdict(counters),
        }
        atomic_write_json(folder / "shard.json", description, indent=None)
    return sum(blocks)


def _blocks(shard: Shard, counters: ReadCounters) -> Iterator[tuple[list[str], list[int]]]:
    texts: list[str] = []
    places: list[int] = []
    characters = 0
    for document in shard.documents(counters):
        texts.append(document.text)
        places.append(document.place)
        characters += len(document.text)
        if characters >= _BLOCK_CHARACTERS or len(texts) >= _BLOCK_DOCUMENTS:
            yield texts, places
            texts, places, characters = [], [], 0
    if texts:
        yield texts, places


def _write_block(
    files: Mapping[str, BinaryIO], texts: list[str], places: list[int], minhash: MinHash, settings: DuplicateSettings
) -> None:
    folded = minhash.fold(texts)
    files["keys"].write(_keys(texts, folded))
    files["lengths"].write(folded.lengths.astype(np.uint32).tobytes())
    files["places"].write(np.array(places, np.uint64).tobytes())
    if settings.near:
        signatures = minhash.signatures(folded)
        files["signatures"].write(signatures.data)
        files["bands"].write(band_keys(signatures, settings.bands, settings.rows).data)


def _keys(texts: list[str], folded: FoldedTexts) -> bytes:
    # A text of nothing but signs that fold away is compared as it is, else all of them would be one.
    return b"".join(
        xxhash.xxh3_128_digest(folded[number].data if length else b"\0" + text.encode("utf-8", "surrogatepass"))
        for number, (text, length) in enumerate(zip(texts, folded.lengths, strict=True))
    )


@dataclass(frozen=True, slots=True, eq=False)
class ShardSignatures:
    """The folder of one shard, opened for reading."""

    folder: Path
    documents: int
    blocks: list[int]
    read: ReadCounters
    settings: DuplicateSettings

    def keys(self) -> NDArray[np.uint64]:
        """(documents, 2) uint64."""
        return np.fromfile(self.folder / "keys", np.uint64).reshape(-1, 2)

    def lengths(self) -> NDArray[np.uint32]:
        """Folded characters, (documents,) uint32."""
        return np.fromfile(self.folder / "lengths", np.uint32)

    def places(self) -> NDArray[np.uint64]:
        """Lines or rows from 1, (documents,) uint64."""
        return np.fromfile(self.folder / "places", np.uint64)

    def band(self, band: int) -> Iterator[NDArray[np.uint64]]:
        """The keys of one band, block by block."""
        bands, offset = self.settings.bands, 0
        with open(self.folder / "bands", "rb", buffering=0) as file:
            for documents in self.blocks:
                file.seek(offset + 8 * band * documents)
                yield np.fromfile(file, np.uint64, documents)
                offset += 8 * bands * documents

    def signatures(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Rows of signatures, (len(numbers), permutations) uint32."""
        # Read row by row, not mapped: the pages around a row of a map would count as this process's memory.
        rows = np.empty((len(numbers), self.settings.permutations), np.uint32)
        with open(self.folder / "signatures", "rb", buffering=0) as file:
            for row, offset in zip(rows, (numbers * rows.strides[0]).tolist(), strict=True):
                os.preadv(file.fileno(), [row.data], offset)
        return rows


def open_signatures(job: SignatureJob) -> ShardSignatures:
    """Opens a shard's folder.

    Raises:
        BadDataError: It is missing, was made with other settings, or its files do not fit together.
    """
    there = _description(job.folder)
    again = "write the signatures again"
    if there is None:
        raise BadDataError(f"{job.folder}: the signatures of {job.shard.path} are not there; {again}.")
    for name, found, expected in zip(_MADE_WITH, there["made_with"], job.made_with(), strict=True):
        if found != expected:
            raise BadDataError(f"{job.folder}: made with another {name} ({found}; now {expected}); {again}.")
    settings, documents = job.settings, int(there["documents"])
    near = int(settings.near)
    bytes_each = {"keys": 16, "lengths": 4, "places": 8, "signatures": 4 * near * settings.permutations,
                  "bands": 8 * near * settings.bands}  # fmt: skip
    for name, size in bytes_each.items():
        found = (job.folder / name).stat().st_size
        if found != size * documents:
            raise BadDataError(f"{job.folder / name}: {found} bytes; expected {size * documents}; {again}.")
    return ShardSignatures(job.folder, documents, there["blocks"], ReadCounters(**there["read"]), settings)


def _description(folder: Path) -> dict[str, Any] | None:
    try:
        described = json.loads((folder / "shard.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    assert isinstance(described, dict)
    return described
