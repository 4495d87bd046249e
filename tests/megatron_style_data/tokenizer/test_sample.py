"""The training sample: bounded, every source with its share, even within it, the same in any order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.tokenizer.sample import TextSample, quotas, sample_corpus


def files_of(folder: Path, *texts: str) -> list[InputFile]:
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, "utf-8")
    return expand_inputs([folder])


def numbered(name: str, texts: int) -> str:
    """A text file of so many documents of ten bytes, all different."""
    return "\n\n".join(f"{name}{number:09d}" for number in range(texts))


def sampled(files: list[InputFile], sample_bytes: int) -> TextSample:
    return sample_corpus(files, ReadOptions(text_documents="blank-line"), ReadCounters(), sample_bytes=sample_bytes)


def test_every_source_has_its_share_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_style_data.tokenizer.sample._LEAST_QUOTA_BYTES", 100)
    files = files_of(tmp_path, numbered("a", 6000), numbered("b", 3000), numbered("c", 999), numbered("d", 1))
    sample = sampled(files, 10_000)
    assert sample.utf8_bytes <= 10_000
    kept = {source[0]: kept for source, (_, kept) in sample.sources.items()}
    assert abs(kept["0"] - 6000) <= 20
    assert abs(kept["1"] - 3000) <= 20
    assert kept["3"] == 10
    assert kept == {
        str(number): sum(len(text) for text in sample.texts if text[0] == name) for number, name in enumerate("abcd")
    }


def test_a_small_source_gives_more_than_its_share_rather_than_nothing(tmp_path: Path) -> None:
    kept = [
        kept for _, kept in sampled(files_of(tmp_path, numbered("a", 9999), numbered("b", 3)), 1000).sources.values()
    ]
    assert kept == [970, 30]


def test_what_a_repetitive_source_cannot_fill_goes_to_the_others(tmp_path: Path) -> None:
    files = files_of(tmp_path, "\n\n".join(["again....."] * 5000), numbered("b", 3000), numbered("c", 1000))
    kept = [kept for _, kept in sampled(files, 10_000).sources.values()]
    assert kept[0] == 10
    assert abs(kept[1] - 7490) <= 20
    assert abs(kept[2] - 2500) <= 20


def test_a_text_of_two_sources_is_taken_once(tmp_path: Path) -> None:
    sample = sampled(files_of(tmp_path, numbered("a", 500), numbered("a", 500)), 6000)
    assert len(set(sample.texts)) == len(sample.texts)


@given(st.data())
def test_quotas_fill_the_sample_and_are_in_proportion(data: st.DataObject) -> None:
    read = data.draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=8), "read")
    held = [data.draw(st.integers(0, size), "held") for size in read]
    sample_bytes = data.draw(st.integers(1, 2 * 10**9), "sample")
    least = data.draw(st.integers(0, sample_bytes // (2 * len(read))), "least")
    found = list(
        quotas(
            *({str(number): size for number, size in enumerate(sizes)} for sizes in (held, read)), sample_bytes, least
        ).values()
    )
    assert all(0 <= quota <= size for quota, size in zip(found, held, strict=True))
    assert min(sample_bytes, sum(held)) - 8 - 2e-6 * sum(read) <= sum(found) <= sample_bytes
    rates = [quota / size for quota, size, most in zip(found, read, held, strict=True) if least < quota < most]
    assert max(rates, default=0) - min(rates, default=0) <= 1 / min(read)


@pytest.mark.parametrize("slack", [0, 1, 100])
def test_the_sample_does_not_depend_on_the_order_of_files_or_on_when_chunks_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: int
) -> None:
    files = files_of(tmp_path, *(numbered(name, 300 * number) for number, name in enumerate("abcde", 1)))
    expected = sampled(files, 5000)
    monkeypatch.setattr("megatron_style_data.tokenizer.sample._SLACK", slack)
    assert sampled(files[::-1], 5000).texts == expected.texts


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
