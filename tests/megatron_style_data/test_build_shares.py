"""A build in shares, and one that shuffles its documents: the bytes do not depend on who encoded what."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_style_data.build import assemble, build, build_share
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.readers import ReadOptions
from megatron_style_data.verify import verify

SUFFIXES = (".bin", ".idx", ".meta.json")


def contents(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in SUFFIXES]


@pytest.fixture
def settings(
    tmp_path: Path, tokenizer_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> BuildSettings:
    """A corpus of lines with bad ones among them and of Parquet row groups, cut into many units."""
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"content": text}) for text in texts[:40]]
    lines[17:17] = ["not json", json.dumps({"content": " "}), ""]
    lines[30] = lines[30].replace('{"content"', '{"text": "the field is chosen by the first line", "content"')
    (tmp_path / "corpus" / "a.jsonl").write_text("\n".join(lines) + "\n")
    table = pa.table({"text": texts[40:]})
    pq.write_table(table, tmp_path / "corpus" / "b.parquet", row_group_size=3)
    return BuildSettings([str(tmp_path / "corpus")], str(tokenizer_folder), tmp_path / "d", valid_fraction=0.1)


@pytest.fixture
def whole(settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What one unit for each file gives."""
    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1 << 23)
        build(replace(settings, output=tmp_path / "whole"))
    return contents(tmp_path / "whole")


def test_files_cut_into_parts_give_the_same_dataset(settings: BuildSettings, whole: list[bytes]) -> None:
    counters = build(settings).counters
    assert contents(settings.output) == whole
    assert counters.documents == 60
    assert counters.dropped_in_words() == [
        f"1 empty, first: {settings.inputs[0]}/a.jsonl, line 19: no text but spaces",
        f"1 not JSON, first: {settings.inputs[0]}/a.jsonl, line 18: not JSON (Expecting value: line 1 column 1 (char 0))",
    ]


@pytest.mark.parametrize("shares", [1, 3])
def test_shares_in_any_order_give_the_bytes_of_one_build(
    settings: BuildSettings, whole: list[bytes], shares: int
) -> None:
    encoded = [build_share(settings, share, shares) for share in range(shares, 0, -1)]
    assert sum(encoded) == 60
    assemble(settings)
    assert contents(settings.output) == whole
    assert not path_building(settings.output).exists()


def test_a_bad_line_of_a_part_is_refused_by_its_line_in_the_file(settings: BuildSettings) -> None:
    with pytest.raises(BadDataError, match=r"a\.jsonl, line 18: not JSON"):
        build(replace(settings, read=ReadOptions(on_bad="refuse")))


def test_too_many_bad_documents_of_all_parts_together_end_the_build(settings: BuildSettings) -> None:
    with pytest.raises(BadDataError, match="1 bad documents, more than max_bad 0"):
        build(replace(settings, read=ReadOptions(max_bad=0)))
    build(replace(settings, read=ReadOptions(max_bad=1)))


def test_missing_shares_are_named_and_what_is_there_stays(settings: BuildSettings, whole: list[bytes]) -> None:
    build_share(settings, 1, 3)
    with pytest.raises(
        StorageError, match=r"\d+ of \d+ units are not there, .*\(units 2, 3, 5, 6, 8 …\); .*--assemble"
    ):
        assemble(settings)
    build_share(settings, 2, 3)
    build_share(settings, 3, 3)
    assemble(settings)
    assert contents(settings.output) == whole


def test_shares_of_other_settings_are_not_put_together(settings: BuildSettings) -> None:
    build_share(settings, 1, 1)
    with pytest.raises(StorageError, match="or are of other settings or files"):
        assemble(replace(settings, seed=1))
    assemble(settings)


def test_a_build_takes_what_shares_have_done(settings: BuildSettings, whole: list[bytes]) -> None:
    build_share(settings, 1, 2)
    assert 0 < build(settings).resumed_documents < 60
    assert contents(settings.output) == whole


def test_a_share_that_cannot_be_is_refused(settings: BuildSettings) -> None:
    for share, shares in ((0, 3), (4, 3)):
        with pytest.raises(SettingError, match=rf"share {share}/3: expected a number from 1 to 3"):
            build_share(settings, share, shares)


# --- shuffled documents ---


def test_shuffled_documents_are_the_same_in_every_split(settings: BuildSettings, tmp_path: Path) -> None:
    build(settings)
    shuffled = replace(settings, shuffle_documents=True, output=tmp_path / "shuffled")
    manifest = build(shuffled).manifest
    verify(shuffled.output)
    before, after = IndexedDataset.open(settings.output), IndexedDataset.open(shuffled.output)
    assert manifest.splits == load_manifest(settings.output).splits
    assert manifest.settings["shuffle_documents"] is True
    for split in manifest.splits.values():
        numbers = range(split.first_document, split.first_document + split.documents)
        plain, mixed = ([one.document(number).tobytes() for number in numbers] for one in (before, after))
        assert plain != mixed
        assert Counter(plain) == Counter(mixed)


def test_the_shuffle_depends_on_the_seed_only(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = replace(settings, shuffle_documents=True)
    build(shuffled)
    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.build_assembly._WINDOW_BYTES", 64)
        patched.setattr("megatron_style_data.build_assembly._COPY_BYTES", 16)
        patched.setattr("megatron_style_data.build_assembly._OPEN_FILES", 2)
        build(replace(shuffled, output=tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(shuffled.output)
    build(replace(shuffled, seed=1, valid_fraction=0, output=tmp_path / "one"))
    build(replace(shuffled, seed=2, valid_fraction=0, output=tmp_path / "two"))
    assert contents(tmp_path / "one")[0] != contents(tmp_path / "two")[0]


def splitmix64(seed: int, count: int) -> list[int]:
    """The published algorithm, one number at a time; its first output for seed 0 is 0xE220A8397B1DCDAF."""
    mask, found = (1 << 64) - 1, []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        value = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        found.append(value ^ (value >> 31))
    return found


def test_documents_are_shuffled_by_splitmix64() -> None:
    from megatron_style_data.build_assembly import document_order

    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]
    keys = splitmix64(5, 10)
    assert document_order(np.zeros(10, np.uint8), 5).tolist() == sorted(range(10), key=keys.__getitem__)
    assert sorted(document_order(np.array([1, 0, 0, 2], np.uint8), 3)[:2].tolist()) == [1, 2]
    assert document_order(np.array([1, 0, 0, 2], np.uint8), None).tolist() == [1, 2, 0, 3]
