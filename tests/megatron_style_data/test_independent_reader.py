"""What `zhgpt data build` writes, read by a reader that knows docs/data_format.md and nothing of ours."""

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from commands import zhgpt
from tokenizers import Tokenizer

# token type: (struct's letter, bytes), from the table of PREFIX.idx
TOKEN_TYPES = {1: ("B", 1), 3: ("h", 2), 4: ("i", 4), 5: ("q", 8), 8: ("H", 2)}


def read_mmididx(prefix: Path) -> tuple[int, list[list[list[int]]]]:
    """Token type, and the documents as lists of sequences of token ids."""
    index, tokens = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    version, token_type, n, entries = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    assert len(index) == 34 + 12 * n + 8 * entries
    lengths = struct.unpack_from(f"<{n}i", index, 34)
    begins = struct.unpack_from(f"<{n}q", index, 34 + 4 * n)
    first_sequences = struct.unpack_from(f"<{entries}q", index, 34 + 12 * n)
    letter, size = TOKEN_TYPES[token_type]
    assert len(tokens) == size * sum(lengths)
    sequences = [
        list(struct.unpack_from(f"<{length}{letter}", tokens, begin))
        for length, begin in zip(lengths, begins, strict=True)
    ]
    return token_type, [sequences[first:end] for first, end in pairwise(first_sequences)]


@pytest.mark.parametrize(("dtype", "token_type"), [("uint16", 8), ("int32", 4)])
def test_a_built_dataset_is_what_the_description_says(
    dtype: str, token_type: int, tmp_path: Path, tokenizer_folder: Path, texts: list[str]
) -> None:
    """The tokens are those of the tokenizers library; the order is train, then valid, each in the order of the input."""
    corpus = tmp_path / "a.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    zhgpt("data", "build", "--input", corpus, "--tokenizer", tokenizer_folder, "--output", tmp_path / "d",
          "--dtype", dtype, "--valid-fraction", "0.1")  # fmt: skip
    found_type, documents = read_mmididx(tmp_path / "d")
    assert found_type == token_type
    assert all(len(sequences) == 1 for sequences in documents)
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    expected = [[*tokenizer.encode(text).ids, tokenizer.token_to_id("<|endoftext|>")] for text in texts]
    places = [expected.index(sequences[0]) for sequences in documents]
    held_out = places[54:]
    assert sorted(places) == list(range(60))
    assert places == sorted(set(range(60)) - set(held_out)) + sorted(held_out)
    splits = json.loads(Path(f"{tmp_path / 'd'}.meta.json").read_bytes())["splits"]
    assert (splits["train"]["documents"], splits["valid"]["first_document"], splits["valid"]["documents"]) == (
        54,
        54,
        6,
    )
