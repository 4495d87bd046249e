"""The chunks with the lowest hashes: bounded, even, the same in any order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.tokenizer.lowest_hashes import LowestHashes, chunks_of


def utf8_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def lowest(texts: list[str], sample_bytes: int) -> list[str]:
    kept = LowestHashes(sample_bytes)
    for text in texts:
        kept.offer(text)
    assert kept.utf8_bytes == utf8_bytes([chunk for _, chunk in kept.chunks()])
    return [chunk for _, chunk in kept.chunks()]


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
    sample = lowest(texts, most)
    assert sample == lowest(shuffled, most)
    assert utf8_bytes(sample) <= most
    assert set(sample) <= set(texts)
    assert len(set(sample)) == len(sample)


def test_everything_is_taken_where_it_fits_but_repetitions_once() -> None:
    assert sorted(lowest(["c", "a", "b", "a"], 3)) == ["a", "b", "c"]


def test_the_sample_is_even_over_the_corpus() -> None:
    texts = [f"{number:06d}" for number in range(20_000)]
    sample = lowest(texts, 12_000)
    assert utf8_bytes(sample) == 12_000
    numbers = sorted(map(int, sample))
    for quarter in range(4):
        in_it = sum(quarter * 5000 <= number < (quarter + 1) * 5000 for number in numbers)
        assert 425 <= in_it <= 575  # 500 expected, standard deviation about 19


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=9)), st.integers(9, 100), st.integers(9, 100))
def test_a_sample_that_shrinks_is_the_smaller_sample(texts: list[str], most: int, later: int) -> None:
    kept = LowestHashes(most)
    for text in texts[: len(texts) // 2]:
        kept.offer(text)
    kept.shrink(later)
    for text in texts[len(texts) // 2 :]:
        kept.offer(text)
    assert [chunk for _, chunk in kept.chunks()] == lowest(texts, min(most, later))
