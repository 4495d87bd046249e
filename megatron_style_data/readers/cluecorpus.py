"""Reads CLUECorpus2020 and CLUECorpusSmall: a sentence a line, an empty line between documents."""

import re
from collections.abc import Iterator, Sequence

from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.records import RawDocument
from megatron_style_data.readers.text import read_blocks

# A line that ends so is a sentence or a part of one; any other is a heading or an item of a list.
_SENTENCE_END = re.compile(r"[。！？；：，、…—!?;:,.](?:[”’」』）》〉\])\"']*)$|[”’」』]$")
_WORD_END = re.compile(r"[A-Za-z0-9.,;:!?)\"']$")
_WORD_START = re.compile(r"[A-Za-z0-9(\"']")
# Names of the corpus, of its folders and of the corpora that CLUECorpusSmall is made of.
NAMES = re.compile(r"clue_?corpus|(?:comments?|news?|webtext)20\d\d_?zh|wiki_?zh", re.IGNORECASE)


def read_cluecorpus(bad: BadDocuments) -> Iterator[RawDocument]:
    """Yields (number of the first line, text) of each document, with its sentences joined to paragraphs.

    Raises:
        BadDataError: A bad document is refused, or the file is cut off or damaged.
    """
    for document in read_blocks(bad):
        yield document._replace(text=join_sentences(document.text.splitlines()))


def join_sentences(lines: Sequence[str]) -> str:
    """Joins sentences: directly after Chinese, with a space between Latin words; headings keep their line end."""
    text = ""
    for line in lines:
        line = line.strip()
        if not text or not line:
            text += line
        elif not _SENTENCE_END.search(text[-8:]):
            text += "\n" + line
        elif _WORD_END.search(text[-1:]) and _WORD_START.match(line):
            text += " " + line
        else:
            text += line
    return text


def looks_like_cluecorpus(start: str) -> bool:
    """Whether the beginning of a text file has several lines between its empty ones, most of them sentences."""
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", start.replace("\r\n", "\n")) if block.strip()]
    lines = [line for block in blocks for line in block]
    sentences = sum(_SENTENCE_END.search(line.strip()) is not None for line in lines)
    return len(lines) >= 2 * len(blocks) > 0 and 2 * sentences >= len(lines)
