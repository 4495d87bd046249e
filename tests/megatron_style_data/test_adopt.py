"""Datasets made by Megatron or GPT-NeoX: taken over as they are, with everything said that is different about them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from megatron_style_data.adopt import AdoptSettings, adopt
from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError
from megatron_style_data.indexed_dataset import index_chunks, path_bin, path_idx
from megatron_style_data.manifest import load_manifest, path_manifest
from megatron_style_data.samples import Samples
from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.verify import verify


def write_foreign(prefix: Path, documents: Sequence[Sequence[Sequence[int]]], dtype: str = "uint16") -> None:
    """A .bin/.idx pair without manifest; a document is a list of sequences."""
    sequences = [sequence for document in documents for sequence in document]
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    firsts = np.cumsum([0] + [len(document) for document in documents])
    path_idx(prefix).write_bytes(b"".join(index_chunks(dtype, lengths, firsts)))
    path_bin(prefix).write_bytes(np.array([token for sequence in sequences for token in sequence], dtype).tobytes())


@pytest.fixture
def settings(tmp_path: Path, tokenizer_folder: Path, texts: list[str]) -> AdoptSettings:
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = tokenizer.encode_batch(texts)
    write_foreign(tmp_path / "theirs", [[[*text_ids, tokenizer.end_of_text_id]] for text_ids in ids])
    return AdoptSettings(tmp_path / "theirs", str(tokenizer_folder))


def test_all_documents_become_train_and_their_text_is_counted(settings: AdoptSettings, texts: list[str]) -> None:
    before = path_bin(settings.prefix).read_bytes(), path_idx(settings.prefix).read_bytes()
    manifest = adopt(settings).manifest
    assert manifest.utf8_bytes == sum(len(text.encode()) for text in texts)
    assert (manifest.origin, manifest.documents, list(manifest.splits)) == ("adopted", 60, ["train"])
    assert manifest.documents_without_end_of_text == 0
    assert manifest.floor is not None
    assert manifest.floor.measured_on == "train"
    assert (path_bin(settings.prefix).read_bytes(), path_idx(settings.prefix).read_bytes()) == before


def test_an_adopted_dataset_is_verified_and_sampled_like_any_other(settings: AdoptSettings) -> None:
    manifest = adopt(settings).manifest
    assert verify(settings.prefix) == manifest == load_manifest(settings.prefix)
    assert Samples.open(settings.prefix, sequence_length=16).tokens == manifest.tokens


def test_the_last_documents_are_held_out_on_request(settings: AdoptSettings, texts: list[str]) -> None:
    manifest = adopt(replace(settings, valid_fraction=0.1, test_fraction=0.05)).manifest
    train, valid, test = (manifest.splits[name] for name in ("train", "valid", "test"))
    assert (train.documents, valid.documents, test.documents) == (51, 6, 3)
    assert valid.utf8_bytes == sum(len(text.encode()) for text in texts[51:57])
    assert test.first_document == 57
    assert manifest.floor is not None
    assert manifest.floor.measured_on == "valid"
    verify(settings.prefix)


def test_documents_of_several_sequences_stay_one(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[70, 71], [72, 0]], [], [[73, 74, 0]]])
    manifest = adopt(settings).manifest
    assert (manifest.documents, manifest.sequences, manifest.tokens) == (3, 3, 7)
    verify(settings.prefix)
    samples = Samples.open(settings.prefix, sequence_length=7, shuffle=False)
    assert samples.batch([0]).document_ids.tolist() == [[0, 1, 1, 1, 1, 2, 2, 2]]


def test_documents_without_end_of_text_are_counted_and_the_first_named(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[70, 71, 0]], [[72]], [[73, 74]]])
    result = adopt(settings)
    assert result.manifest.documents_without_end_of_text == 2
    assert result.first_without_end_of_text == 1
    verify(settings.prefix)


def test_int32_ids_are_taken_over(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[70, 71, 0]]], "int32")
    assert adopt(settings).manifest.dtype == "int32"


def test_progress_counts_tokens(settings: AdoptSettings) -> None:
    seen: list[tuple[int, int]] = []
    manifest = adopt(settings, lambda *state: seen.append(state)).manifest
    assert seen[-1] == (manifest.tokens, manifest.tokens)


def test_ids_of_another_tokenizer_are_refused(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[70, 400, 0]]])
    with pytest.raises(BadDataError, match=r"theirs\.bin: token 1 has id 400, .* 400 entries; .* another tokenizer"):
        adopt(settings)
    assert not path_manifest(settings.prefix).exists()


def test_negative_ids_are_refused(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[70, -1, 0]]], "int32")
    with pytest.raises(BadDataError, match="token 1 has id -1"):
        adopt(settings)


def test_documents_without_text_are_refused(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [[[0]], [[0]]])
    with pytest.raises(BadDataError, match=r"theirs\.bin: documents 0 to 1 \(train\) hold no text"):
        adopt(settings)


def test_no_documents_at_all_are_refused(settings: AdoptSettings) -> None:
    write_foreign(settings.prefix, [])
    with pytest.raises(BadDataError, match=r"nothing is left to train on: 0 documents"):
        adopt(settings)


def test_missing_files_are_named(settings: AdoptSettings, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere\.idx: no such file"):
        adopt(replace(settings, prefix=tmp_path / "nowhere"))


def test_a_manifest_that_is_there_stays_unless_forced(settings: AdoptSettings) -> None:
    adopt(settings)
    with pytest.raises(StorageError, match=r"theirs\.meta\.json: exists already; pass --force"):
        adopt(settings)
    assert list(adopt(replace(settings, valid_fraction=0.1, force=True)).manifest.splits) == ["train", "valid"]


def test_fractions_that_cannot_be_are_refused(settings: AdoptSettings) -> None:
    with pytest.raises(SettingError, match=r"valid fraction 2: expected"):
        adopt(replace(settings, valid_fraction=2))
