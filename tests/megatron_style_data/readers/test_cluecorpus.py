"""CLUECorpus: sentences are joined to documents, and other text files are not taken for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_style_data.readers import Document, ReadCounters
from megatron_style_data.readers.cluecorpus import join_sentences

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]

TEXT = "老树\n它在村口站了三百年。\n村里人说：“它见过皇帝。”\n\n\n雨下了一夜，\n天亮才停。\n"
DOCUMENTS = ["老树\n它在村口站了三百年。村里人说：“它见过皇帝。”", "雨下了一夜，天亮才停。"]


@pytest.mark.parametrize(
    "name", ["CLUECorpus2020/0.txt", "CLUECorpusSmall/wiki_zh/a.txt", "news2016zh_corpus/1.txt.gz"]
)
def test_a_sentence_a_line_becomes_documents(name: str, write: Write, read: Read) -> None:
    documents, _ = read(write(name, TEXT))
    assert [(document.place, document.text) for document in documents] == list(zip([1, 6], DOCUMENTS, strict=True))


def test_the_format_can_be_named(write: Write, read: Read) -> None:
    documents, _ = read(write("a.txt", TEXT), format="cluecorpus")
    assert [document.text for document in documents] == DOCUMENTS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", TEXT),  # the name does not say it
        ("clue_corpus/b.txt", "一段很长的话。\n\n又一段很长的话。\n\n第三段。\n"),  # a paragraph a block
        ("clue_corpus/c.txt", "白日\n黄河\n\n千里\n更上\n"),  # no sentences
        ("clue_corpus/d.txt", ""),
    ],
)
def test_other_text_is_one_document_a_file(name: str, content: str, write: Write, read: Read) -> None:
    documents, _ = read(write(name, content))
    assert [document.text for document in documents] == ([content] if content else [])


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["天晴。", "天阴。"], "天晴。天阴。"),
        (["一、天气", "天晴。"], "一、天气\n天晴。"),
        (["他说：", "“走吧！”", "就走了。"], "他说：“走吧！”就走了。"),
        (["It rained.", "We stayed."], "It rained. We stayed."),
        (["It rained.", "天晴。", "OK."], "It rained.天晴。OK."),
        (["", " 天晴。 ", "", "天阴。"], "天晴。天阴。"),
        ([], ""),
    ],
)
def test_sentences_join_as_their_script_wants(lines: list[str], text: str) -> None:
    assert join_sentences(lines) == text


def test_it_reads_gb18030(write: Write, read: Read) -> None:
    content = TEXT.replace("\n\n", "\n\u3000\n").encode("gb18030")
    documents, counters = read(write("cluecorpus/a.txt", content), encoding="auto")
    assert [document.text for document in documents] == DOCUMENTS
    assert counters.changes == {"from_gb18030": 2}
