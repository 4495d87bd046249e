"""Comparing tokenizers: which characters are cut, sets of characters, domains, smaller tokenizers out of larger ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer, train_bpe
from megatron_style_data.tokenizer.comparison import character_sets, fit_of
from megatron_style_data.tokenizer.domains import texts_by_domain
from megatron_style_data.tokenizer.shortened import shortened
from megatron_style_data.tokenizer.token_bytes import split_characters, token_byte_counts


def test_the_bytes_of_tokens_add_up_to_the_text(
    bpe: Tokenizer, sentencepiece: Tokenizer, sentencepiece_as_json: Tokenizer, texts: tuple[str, ...]
) -> None:
    for tokenizer in (bpe, sentencepiece, sentencepiece_as_json):
        counts = token_byte_counts(tokenizer)
        assert counts is not None
        for text, ids in zip(texts, tokenizer.encode_batch(list(texts)), strict=True):
            assert counts[ids].sum() == len(text.encode())


def test_a_tokenizer_that_changes_the_text_has_no_bytes_for_its_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as LibraryTokenizer
    from tokenizers import models

    model = models.WordLevel({"[UNK]": 0, "[EOS]": 1}, unk_token="[UNK]")
    LibraryTokenizer(model).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, end_of_text="[EOS]")
    assert token_byte_counts(tokenizer) is None
    fit = fit_of("words", tokenizer, {"all": ["天下"]})
    assert fit.domains["all"].split_han is None


@pytest.mark.parametrize(
    ("text", "sizes", "expected"),
    [
        ("天下", [3, 3], (2, 0)),
        ("天下", [6], (2, 0)),
        ("天下", [2, 4], (2, 1)),  # 天 is cut, and its end is with 下
        ("天下", [1, 1, 1, 1, 1, 1], (2, 2)),
        ("a天b", [1, 2, 2], (1, 1)),
        ("é天", [1, 1, 3], (1, 0)),  # é is cut, but it is no Han character
        ("", [], (0, 0)),
    ],
)
def test_a_character_is_cut_where_a_token_ends_inside_it(
    text: str, sizes: Sequence[int], expected: tuple[int, int]
) -> None:
    assert split_characters(text, range(len(sizes)), np.array(sizes, np.int32)) == expected


def test_character_sets_are_those_of_gb_2312() -> None:
    sets = character_sets()
    assert [len(characters) for characters in sets.values()] == [3755, 3008, 14139]
    assert "的" in sets["common"]
    assert "龠" in sets["less common"]
    assert "龘" in sets["rare"]


def test_the_fit_of_a_tokenizer(bpe: Tokenizer) -> None:
    fit = fit_of("ours", bpe, {"story": ["话说天下大势", "龘"], "code": ["def f(x):"]})
    assert (fit.name, fit.vocab_size, list(fit.domains)) == ("ours", 600, ["story", "code"])
    story = fit.domains["story"]
    assert (story.characters, story.utf8_bytes, story.han, story.split_han) == (7, 21, 7, 1)
    assert story.tokens == sum(map(len, bpe.encode_batch(["话说天下大势", "龘"])))
    assert story.characters_per_token == 7 / story.tokens
    assert story.bytes_per_token == 21 / story.tokens
    assert fit.number == "2|0|2|6|0|8|1|5"
    simplified, traditional = fit.scripts
    assert simplified > traditional  # it has never seen 話說
    assert fit.characters["common"].in_one_token > 20
    assert fit.characters["rare"].in_one_token == 0
    assert fit.characters["rare"].tokens_per_character > 2
    assert fit.megabytes_per_cpu_second > 0


def files_of(folder: Path, **texts: Sequence[dict[str, str]]) -> list[InputFile]:
    for name, records in texts.items():
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return expand_inputs([folder])


def test_a_domain_is_a_file_or_a_field(tmp_path: Path) -> None:
    files = files_of(
        tmp_path, a=[{"text": "天", "kind": "诗"}, {"text": "下", "kind": "词"}], b=[{"text": "大", "kind": "诗"}]
    )
    by_file = texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=100)
    assert {domain: sorted(texts) for domain, texts in by_file.items()} == {"a.jsonl": ["下", "天"], "b.jsonl": ["大"]}
    by_field = texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=100, field="kind")
    assert {domain: sorted(texts) for domain, texts in by_field.items()} == {"词": ["下"], "诗": ["大", "天"]}
    assert sum(map(len, texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=3)["a.jsonl"])) == 1


def test_domains_that_cannot_be_are_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path, a=[{"text": "天下", "kind": f"{number}"} for number in range(25)])
    with pytest.raises(SettingError, match=r"a\.jsonl: more than 24 domains; compare fewer files"):
        texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=100, field="kind")
    with pytest.raises(SettingError, match=r"a\.jsonl, 1: no text in the field 'sort'; fields found: 'kind'"):
        texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=100, field="sort")
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(BadDataError, match="the corpus is empty"):
        texts_by_domain(files, ReadOptions(), ReadCounters(), domain_bytes=100)


def test_a_smaller_tokenizer_is_the_one_that_training_gives(
    tmp_path: Path, bpe_folder: Path, texts: tuple[str, ...]
) -> None:
    smaller = train_bpe(texts, 400, tmp_path / "smaller")
    cut = shortened(bpe_folder, 400)
    assert cut.vocab_size == 400
    assert cut.encode_batch(list(texts)) == smaller.encode_batch(list(texts))


def test_a_smaller_tokenizer_needs_one_of_ours_and_a_size_that_it_holds(
    bpe_folder: Path, sentencepiece_folder: Path
) -> None:
    for size in (271, 601):
        with pytest.raises(SettingError, match=f"vocab_size {size} is not between 272 and its 600"):
            shortened(bpe_folder, size)
    for path in (sentencepiece_folder, sentencepiece_folder / "tokenizer.json"):
        with pytest.raises(SettingError, match="its ids are not in the order of its merges"):
            shortened(path, 400)
