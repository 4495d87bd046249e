"""What a model writes beside held-out text of the same length: variety, repetition, punctuation, and what is copied."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from megatron_style_data.manifest import check_tokenizer
from megatron_style_data.samples import open_split
from megatron_style_data.tokenizer.protocol import Tokenizer
from zhgpt.errors import BadDataError
from zhgpt.evaluate.memorisation import copied_share
from zhgpt.evaluate.text_statistics import text_statistics

MEASURES = {
    "distinct_1": "distinct characters",
    "distinct_2": "distinct 2-grams",
    "distinct_3": "distinct 3-grams",
    "repeated_4gram_share": "repeated 4-grams",
    "punctuation_share": "punctuation",
}
"""Statistics that are compared, and their words."""
ALIKE = 0.2
"""How far from held-out text's, as a share of it, a measure of healthy prose lies at most."""
COPIED = 0.05
"""Share of windows from the training text above which a model recites."""
FEWEST_CHARACTERS = 20
"""Shorter texts are left out of the means: a statistic of some characters says nothing."""


@dataclass(frozen=True)
class Writing:
    """Some texts in numbers.

    Attributes:
        texts: how many, the short ones left out.
        characters: of a text, on average.
        measures: mean over the texts, by the names of ``MEASURES``.
        copied_share: 30-character windows that stand in the training text; None where it was not searched.
    """

    texts: int
    characters: float
    measures: dict[str, float]
    copied_share: float | None = None


@dataclass(frozen=True)
class Passage:
    """Held-out text in two: what a model is given, and how it goes on."""

    prompt: str
    continuation: str


@dataclass(frozen=True)
class Comparison:
    """One measure of a model's texts beside that of held-out ones."""

    name: str
    written: float
    held_out: float

    @property
    def ratio(self) -> float | None:
        """None where held-out text has nothing of it."""
        return self.written / self.held_out if self.held_out else None

    @property
    def is_alike(self) -> bool:
        """Whether it lies within ``ALIKE``."""
        return abs(self.written - self.held_out) <= ALIKE * self.held_out


def writing_of(texts: Sequence[str], passages: Iterable[str] | None = None) -> Writing | None:
    """Numbers of some texts; None if all are short.

    Args:
        texts: continuations without their prompts.
        passages: of the training text, to look for copies in; None: not searched.
    """
    long_enough = [text for text in texts if len(text) >= FEWEST_CHARACTERS]
    if not long_enough:
        return None
    statistics = [text_statistics(text) for text in long_enough]
    return Writing(
        len(long_enough),
        fmean(len(text) for text in long_enough),
        {name: fmean(one[name] for one in statistics) for name in MEASURES},
        None if passages is None else copied_share(long_enough, passages),
    )


def compare(written: Writing, held_out: Writing) -> list[Comparison]:
    """Every measure of both."""
    return [Comparison(name, value, held_out.measures[name]) for name, value in written.measures.items()]


def held_out_texts(
    prefix: str | Path, tokenizer: Tokenizer, count: int, tokens: int, *, inside: bool = False
) -> list[str]:
    """Held-out documents, spread evenly over the valid split, cut where a model's texts are cut.

    A model begins a document, and ends it where it would; so do these, and are as long as its texts if it has learnt how long
    documents are. How much a text repeats depends on its length. Prompts that are no beginnings are continued as a document
    goes on in its middle, without the title and the list of authors that the register may begin with.

    Args:
        prefix: of a finished dataset.
        tokenizer: the one it was built with.
        count: documents at most.
        tokens: of each at most.
        inside: from a line in the middle of each document instead of its beginning; of a document that is not long enough,
            from a line that leaves as many tokens as asked for, if there is one.

    Raises:
        MissingInputError: no finished dataset there.
        BadDataError: another tokenizer's dataset, or no valid split.
    """
    texts = []
    for document in _held_out_documents(prefix, tokenizer, count):
        begin = _line_inside(document, tokenizer, tokens) if inside else 0
        text = tokenizer.decode(document[begin : begin + tokens])
        # A place inside that no line begins at may lie within a character's bytes.
        texts.append(text.lstrip("\ufffd") if begin else text)
    return texts


def held_out_passages(
    prefix: str | Path, tokenizer: Tokenizer, count: int, prompt_tokens: int, tokens: int, *, inside: bool = False
) -> list[Passage]:
    """Passages of as many held-out documents, to be continued by a model: like is compared with like.

    Args:
        prefix, tokenizer, count, inside: see :func:`held_out_texts`.
        prompt_tokens: given to the model; a character that they cut in two is left to the continuation.
        tokens: of the continuation at most.

    Raises:
        MissingInputError: no finished dataset there.
        BadDataError: another tokenizer's dataset, no valid split, or no document is longer than the prompt.
    """
    passages = []
    for document in _held_out_documents(prefix, tokenizer, count):
        if len(document) <= prompt_tokens:
            continue
        begin = _line_inside(document, tokenizer, prompt_tokens + tokens) if inside else 0
        taken = document[begin : begin + prompt_tokens + tokens]
        prompt = tokenizer.decode(taken[:prompt_tokens]).rstrip("\ufffd")
        text = tokenizer.decode(taken)
        if prompt.strip("\ufffd"):
            passages.append(Passage(prompt.lstrip("\ufffd"), text[len(prompt) :]))
    if not passages:
        raise BadDataError(
            f"{prefix}: no held-out document is longer than the {prompt_tokens} tokens of a prompt; ask for fewer "
            "--prompt-tokens, or give --prompts."
        )
    return passages


def _held_out_documents(prefix: str | Path, tokenizer: Tokenizer, count: int) -> Iterator[list[int]]:
    """The ids of documents spread evenly over the valid split, each without its end-of-text token."""
    dataset, manifest, split = open_split(prefix, "valid")
    check_tokenizer(manifest, tokenizer)
    most = min(count, split.documents)
    for number in range(most):
        document = dataset.document(split.first_document + number * split.documents // most).tolist()
        if tokenizer.end_of_text_id in document:
            document = document[: document.index(tokenizer.end_of_text_id)]
        yield document


def _line_inside(document: list[int], tokenizer: Tokenizer, tokens: int) -> int:
    """Where the first line begins after the middle, or after the last place with so many tokens behind it."""
    place = min(len(document) // 2, max(0, len(document) - tokens))
    if place == 0:
        return 0
    for number, token in enumerate(document[place:], place + 1):
        if "\n" in tokenizer.decode([token]):
            return number if number < len(document) else place
    return place
