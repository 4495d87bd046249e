"""Exact and near-duplicates of a whole collection."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up_chinese import chinese, punctuated, with_another_end

from megatron_style_data.deduplication import CorpusShard, Duplicates, DuplicateSettings, find_duplicates
from megatron_style_data.deduplication import duplicates as duplicates_module
from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.readers import InputFile

WriteShard = Callable[[str, Sequence[str]], Path]


@pytest.fixture
def poems() -> list[str]:
    draw = np.random.default_rng(3)
    return [chinese(draw, int(length)) for length in draw.integers(40, 300, 60)]


def found(shards: Sequence[Path], folder: Path, workers: int = 1, **settings: object) -> Duplicates:
    return find_duplicates(shards, DuplicateSettings(**settings), folder / "work", workers)  # type: ignore[arg-type]


def test_the_same_characters_in_other_punctuation_are_exact_duplicates(
    tmp_path: Path, write_shard: WriteShard, poems: list[str]
) -> None:
    shards = [
        write_shard("a.jsonl", [punctuated(text, 5) for text in poems]),
        write_shard("b.jsonl.zst", [punctuated(text, 7) for text in poems[:20]] + ["新的一首诗，只在这里。"]),
    ]
    result = found(shards, tmp_path, near=False)
    assert not result.dropped(0).any()
    assert result.dropped(1).tolist() == [True] * 20 + [False]
    counts = result.counts
    assert (counts.documents, counts.exact, counts.near, counts.clusters, counts.kept) == (81, 20, 0, 20, 61)


def test_near_duplicates_above_the_threshold_are_found_and_no_others(tmp_path: Path, write_shard: WriteShard) -> None:
    draw = np.random.default_rng(4)
    texts = [chinese(draw, 400) for _ in range(40)]
    # 400 characters of which the last c differ: (396 - c) common shingles of 396 + c.
    alike = [with_another_end(text, draw, 20) for text in texts[:20]]  # 0.90
    not_alike = [with_another_end(text, draw, 60) for text in texts[20:]]  # 0.74
    shards = [write_shard("a.jsonl", texts), write_shard("b.jsonl", alike + not_alike)]
    result = found(shards, tmp_path)
    assert result.dropped(1).tolist() == [True] * 20 + [False] * 20
    assert (result.counts.exact, result.counts.near, result.counts.clusters) == (0, 20, 20)
    assert result.counts.read_again >= 20
    assert not found(shards, tmp_path, threshold=0.95).dropped(1).any()
    assert found(shards, tmp_path, threshold=0.6).dropped(1).all()


def test_pairs_found_are_those_of_a_comparison_of_all_pairs(tmp_path: Path, write_shard: WriteShard) -> None:
    draw = np.random.default_rng(9)
    texts = [chinese(draw, int(length)) for length in draw.integers(30, 200, 200)]
    # Similarities evenly spread over 0.5 to 1, many of them near the threshold.
    texts += [with_another_end(text, draw, int(len(text) * draw.random() * 0.3)) for text in texts]
    keepers = found([write_shard("a.jsonl", texts)], tmp_path).keepers
    sets = [{text[place : place + 5] for place in range(len(text) - 4)} for text in texts]
    pairs = [(one, other) for other in range(len(texts)) for one in range(other)]
    alike = {(a, b) for a, b in pairs if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b])}
    together = {(a, b) for a, b in pairs if keepers[a] == keepers[b]}
    assert len(alike) > 70
    assert len(alike & together) / len(alike) >= 0.95
    assert len(alike & together) / len(together) >= 0.9


def test_a_shard_without_documents_does_not_disturb(tmp_path: Path, write_shard: WriteShard) -> None:
    shards = [write_shard("a.jsonl.zst", []), write_shard("b.jsonl", ["春眠不觉晓"] * 2), write_shard("c.jsonl", [])]
    result = found(shards, tmp_path)
    assert [result.dropped(number).tolist() for number in range(3)] == [[], [False, True], []]


def test_the_longest_of_a_cluster_stays_or_the_first(tmp_path: Path, write_shard: WriteShard, poems: list[str]) -> None:
    longer = [text + "后加" for text in poems]
    shards = [write_shard("a.jsonl", poems), write_shard("b.jsonl", longer)]
    first, longest = found(shards, tmp_path, keep="first"), found(shards, tmp_path, keep="longest")
    assert first.dropped(1).all()
    assert not first.dropped(0).any()
    assert longest.dropped(0).all()
    assert not longest.dropped(1).any()
    same = [write_shard("c.jsonl", poems), write_shard("d.jsonl", poems)]
    assert found(same, tmp_path, keep="longest").dropped(1).all()


def test_texts_shorter_than_a_shingle_are_compared_exactly_only(tmp_path: Path, write_shard: WriteShard) -> None:
    shard = write_shard("a.jsonl", ["好", "好。", "不好", "！！", "！！", "？？", "四个字啊", "四个字呀"])
    result = found([shard], tmp_path)
    assert result.dropped(0).tolist() == [False, True, False, False, True, False, False, False]
    assert not found([shard], tmp_path, exact=False).dropped(0).any()


def test_one_and_four_workers_find_the_same(tmp_path: Path, write_shard: WriteShard, poems: list[str]) -> None:
    draw = np.random.default_rng(5)
    again = [with_another_end(text, draw, 4) for text in poems]
    shards = [write_shard(f"{n}.jsonl", [*poems[n::3], *again[n::4], *poems[:5]]) for n in range(6)]
    one = find_duplicates(shards, DuplicateSettings(), tmp_path / "one", 1)
    four = find_duplicates(shards, DuplicateSettings(), tmp_path / "four", 4)
    assert np.array_equal(one.keepers, four.keepers)
    assert one.counts == four.counts
    assert one.examples == four.examples
    assert one.counts.near > 20


def test_a_small_bucket_and_few_pairs_at_once_find_the_same(
    tmp_path: Path, write_shard: WriteShard, poems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(6)
    shard = write_shard("a.jsonl", [*poems, *(with_another_end(text, draw, 4) for text in poems), *poems[:9]])
    whole = found([shard], tmp_path)
    monkeypatch.setattr(duplicates_module, "_PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(duplicates_module, "_MOST_DOUBTFUL", 2)
    monkeypatch.setattr(duplicates_module, "_BUCKET_DOCUMENTS", 10)
    assert np.array_equal(found([shard], tmp_path).keepers, whole.keepers)


def test_a_large_group_of_copies_is_one_cluster(tmp_path: Path, write_shard: WriteShard) -> None:
    draw = np.random.default_rng(7)
    text = chinese(draw, 300)
    shard = write_shard("a.jsonl", [text + str(number) for number in range(200)])
    result = found([shard], tmp_path)
    assert (result.counts.near, result.counts.clusters) == (199, 1)


def test_examples_show_both_texts_and_their_similarity(
    tmp_path: Path, write_shard: WriteShard, poems: list[str]
) -> None:
    shard = write_shard("a.jsonl", [*poems, poems[7] + "又", poems[9]])
    (example,) = found([shard], tmp_path).examples
    assert (example.kept, example.dropped) == (poems[7] + "又", poems[7])
    assert 0.9 < example.similarity <= 1


def test_a_second_search_reads_only_what_has_changed(tmp_path: Path, write_shard: WriteShard, poems: list[str]) -> None:
    shards = [write_shard("a.jsonl", poems), write_shard("b.jsonl", poems[:5])]
    found(shards, tmp_path)
    before = [(tmp_path / "work" / name / "shard.json").stat().st_ino for name in ("shard-00000", "shard-00001")]
    write_shard("b.jsonl", poems[:6])
    assert found(shards, tmp_path).counts.exact == 6
    after = [(tmp_path / "work" / name / "shard.json").stat().st_ino for name in ("shard-00000", "shard-00001")]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_any_corpus_can_be_a_shard_and_what_its_reader_drops_is_counted(tmp_path: Path, poems: list[str]) -> None:
    lines = [json.dumps({"content": text}, ensure_ascii=False) for text in (poems[0], poems[1], poems[0])]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([lines[0], "not json", *lines[1:]]), "utf-8")
    result = find_duplicates([CorpusShard(InputFile(path, "a", "jsonl"))], DuplicateSettings(), tmp_path / "w", 1)
    assert result.dropped(0).tolist() == [False, False, True]
    assert result.read.dropped == {"not_json": 1}
    assert result.collection.places(np.arange(3)).tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not json\n", r"a\.jsonl, line 1: not JSON"),
        (b'{"text": "\xe5\xa5\xbd"}\n\n', r"a\.jsonl, line 2: not JSON"),
        (b'{"text": 5}\n', r'a\.jsonl, line 1: expected an object with a string under "text"'),
        (b'["text"]\n', r"a\.jsonl, line 1: expected an object"),
        (b"", r"a\.jsonl: not one document was found"),
    ],
)
@pytest.mark.parametrize("workers", [1])
def test_a_part_that_is_not_one_document_a_line_is_refused(
    tmp_path: Path, content: bytes, sentence: str, workers: int
) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(BadDataError, match=sentence):
        found([tmp_path / "a.jsonl"], tmp_path, workers)
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").glob("sh*/bands")) or not content


def test_a_missing_part_and_no_workers_are_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    with pytest.raises(MissingInputError, match=r"a\.jsonl: no such file"):
        found([tmp_path / "a.jsonl"], tmp_path)
    with pytest.raises(SettingError, match="workers 0: expected at least 1"):
        found([write_shard("b.jsonl", ["一"])], tmp_path, 0)


def test_an_error_in_a_worker_is_raised_here(tmp_path: Path, write_shard: WriteShard) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"not json\n")
    with pytest.raises(BadDataError, match=r"b\.jsonl, line 1: not JSON"):
        found([write_shard("a.jsonl", ["一"]), tmp_path / "b.jsonl"], tmp_path, 2)
