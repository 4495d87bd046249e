"""The training sample is bounded, even, the same in any order, and made of the corpus alone."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.tokenizer.sample import chunks_of, sample_corpus, sample_texts


def utf8_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def files_of(folder: Path, *texts: str) -> list[InputFile]:
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, "utf-8")
    return expand_inputs([folder])


@given(st.text(alphabet="天a\n", max_size=200), st.integers(1, 20))
def test_chunks_join_to_the_text_and_are_bounded(text: str, most: int) -> None:
    chunks = list(chunks_of(text, most))
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= most for chunk in chunks)


def test_chunks_end_at_line_ends() -> None:
    assert list(chunks_of("天下\n大势\n分久必合", 6)) == ["天下\n大势\n", "分久必合"]


@given(st.lists(st.text(alphabet="天下ab", min_size=1, max_size=9)), st.integers(1, 100), st.randoms())
def test_the_sample_does_not_depend_on_the_order(texts: list[str], most: int, order: random.Random) -> None:
    shuffled = list(texts)
    order.shuffle(shuffled)
    sample = sample_texts(texts, most)
    assert sample == sample_texts(shuffled, most)
    assert utf8_bytes(sample) <= most
    assert set(sample) <= set(texts)
    assert len(set(sample)) == len(sample)


def test_everything_is_taken_where_it_fits_but_repetitions_once() -> None:
    assert sorted(sample_texts(["c", "a", "b", "a"], 3)) == ["a", "b", "c"]


def test_the_sample_is_even_over_the_corpus() -> None:
    texts = [f"{number:06d}" for number in range(20_000)]
    sample = sample_texts(texts, 12_000)
    assert utf8_bytes(sample) == 12_000
    numbers = sorted(map(int, sample))
    for quarter in range(4):
        in_it = sum(quarter * 5000 <= number < (quarter + 1) * 5000 for number in numbers)
        assert 425 <= in_it <= 575  # 500 expected, standard deviation about 19


def test_a_corpus_is_counted_while_it_is_sampled(tmp_path: Path) -> None:
    counters, seen = ReadCounters(), []
    sample = sample_corpus(files_of(tmp_path, "天下", " ", "大势"), ReadOptions(), counters, on_progress=seen.append)
    assert sorted(sample.texts) == ["大势", "天下"]
    assert (sample.utf8_bytes, sample.read_documents, sample.read_bytes, sample.characters) == (12, 2, 12, 4)
    assert counters.dropped == {"empty": 1}
    assert seen == [6, 12]


def test_a_larger_corpus_is_read_from_the_beginning_of_each_file(tmp_path: Path) -> None:
    files = files_of(tmp_path, *("\n\n".join(f"{name}{number}" for number in range(1000)) for name in "ab"))
    counters = ReadCounters()
    sample = sample_corpus(files, ReadOptions(text_documents="blank-line"), counters, scan_bytes=400)
    assert counters.utf8_bytes < 410
    assert {text[0] for text in sample.texts} == {"a", "b"}
    assert max(int(text[1:]) for text in sample.texts) < 100


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadDataError, match=r"0\.txt: the corpus is empty, not one document was found \(dropped: 1 empty"
    ):
        sample_corpus(files_of(tmp_path, "\n"), ReadOptions(), ReadCounters())


def test_limits_that_cannot_be_are_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path, "天下大势")
    with pytest.raises(SettingError, match="sample_bytes 0 is not positive"):
        sample_corpus(files, ReadOptions(), ReadCounters(), sample_bytes=0)
    with pytest.raises(SettingError, match="scan_bytes -1 is not positive"):
        sample_corpus(files, ReadOptions(), ReadCounters(), scan_bytes=-1)
    with pytest.raises(BadDataError, match="no text fits into sample_bytes 3; take a larger sample"):
        sample_corpus(files, ReadOptions(), ReadCounters(), sample_bytes=3)
