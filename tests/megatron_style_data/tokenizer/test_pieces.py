"""Tokens are shown as people read them."""

import json
from pathlib import Path

import pytest

from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.tokenizer.pieces import byte_level_alphabet, readable_token


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("的".encode() + b"\xe4", "'的' bytes e4"),
        (b"\x84\xe4" + "的".encode(), "bytes 84 e4 '的'"),
        (b"\xe7\x9a", "bytes e7 9a"),
    ],
)
def test_a_token_with_pieces_of_characters_shows_both(
    content: bytes, shown: str, bpe_folder: Path, tmp_path: Path
) -> None:
    definition = json.loads((bpe_folder / "tokenizer.json").read_text("utf-8"))
    alphabet = byte_level_alphabet()
    definition["model"]["vocab"]["".join(alphabet[byte] for byte in content)] = 600
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    assert readable_token(load_tokenizer(tmp_path), 600) == shown
