"""Step ``decontamination``: drops texts that hold questions or passages of evaluation sets, by character n-grams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from megatron_style_data.cleaning.code_points import letters_and_digits
from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.evaluation_files import EvaluationItem, read_evaluation_items
from megatron_style_data.cleaning.steps.settings import Positive, Share, StepSettings
from megatron_style_data.cleaning.windows import window_hashes

# A table of 2**22 flags that rules out nearly every window before the search for it.
_FLAG_BITS = 22


class DecontaminationSettings(StepSettings):
    """Settings of ``decontamination``. Punctuation, spaces and case do not count."""

    against: tuple[str, ...] = Field(
        min_length=1, description="Evaluation files, folders or globs: .csv (C-Eval, CMMLU), .json, .jsonl (.gz, .zst)."
    )
    fields: tuple[str, ...] = Field(
        default=(), description="Fields to match; empty: question, choices, text, prompt …."
    )
    ngram: Positive = Field(default=13, description="Characters of an n-gram.")
    common_from: Positive = Field(
        default=10,
        description="An n-gram of so many items or more (下列关于…的说法正确的是) says nothing and is left out.",
    )
    maximum_item_share: Share | None = Field(
        default=0.6, description="Largest share of the n-grams of one question that may be found in a text."
    )
    maximum_overlap_characters: Positive | None = Field(
        default=49, description="Longest run of characters that a text may share with an evaluation set."
    )


@dataclass(frozen=True)
class EvaluationIndex:
    """The n-grams of the evaluation sets.

    Attributes:
        ngram: Characters of an n-gram.
        hashes: (pairs,) uint64, sorted; one for each n-gram of each item.
        items: (pairs,) int64: the item of each.
        sizes: (items,) int64: different n-grams of each item, common ones left out.
        names: What to call each item.
        flags: (2**22,) bool: whether an n-gram's hash begins so.
    """

    ngram: int
    hashes: NDArray[np.uint64]
    items: NDArray[np.int64]
    sizes: NDArray[np.int64]
    names: tuple[str, ...]
    flags: NDArray[np.bool_]


def prepare(settings: DecontaminationSettings) -> StepFunction:
    """The step with these settings.

    Raises:
        MissingInputError: An evaluation file does not exist.
        BadDataError: One is not what its name says, or none holds an item of ``ngram`` characters.
    """
    index = index_items(read_evaluation_items(settings.against, settings.fields, settings.ngram), settings)

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        share, overlap, item = overlap_with(letters_and_digits(text), index)
        name = index.names[item] if share else ""
        measures = (
            Measure("item_share", share, high=settings.maximum_item_share, detail=name),
            Measure("overlap_characters", overlap, high=settings.maximum_overlap_characters, detail=name),
        )
        return Outcome(text, measures)

    return run


def index_items(items: list[EvaluationItem], settings: DecontaminationSettings) -> EvaluationIndex:
    """The index of the n-grams of ``items``."""
    hashes: list[NDArray[np.uint64]] = []
    owners: list[NDArray[np.int64]] = []
    for number, item in enumerate(items):
        grams = [window_hashes(letters_and_digits(text), settings.ngram) for text in item.texts]
        unique = np.unique(np.concatenate(grams))
        hashes.append(unique)
        owners.append(np.full(len(unique), number, np.int64))
    all_hashes, all_owners = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(all_hashes, kind="stable")
    all_hashes, all_owners = all_hashes[order], all_owners[order]
    _, where, counts = np.unique(all_hashes, return_inverse=True, return_counts=True)
    telling = counts[where] < settings.common_from
    all_hashes, all_owners = all_hashes[telling], all_owners[telling]
    flags = np.zeros(1 << _FLAG_BITS, np.bool_)
    flags[all_hashes >> np.uint64(64 - _FLAG_BITS)] = True
    sizes = np.bincount(all_owners, minlength=len(items)).astype(np.int64)
    return EvaluationIndex(settings.ngram, all_hashes, all_owners, sizes, tuple(item.name for item in items), flags)


def overlap_with(codes: NDArray[np.uint32], index: EvaluationIndex) -> tuple[float, int, int]:
    """What a text shares with the evaluation sets.

    Args:
        codes: (characters,) the text's letters and digits.
        index: The evaluation sets.

    Returns:
        The largest share of one item's n-grams, the longest run of shared characters, and the item with that share.
    """
    hashes = window_hashes(codes, index.ngram)
    likely = np.flatnonzero(index.flags[hashes >> np.uint64(64 - _FLAG_BITS)])
    first = np.searchsorted(index.hashes, hashes[likely], "left")
    last = np.searchsorted(index.hashes, hashes[likely], "right")
    hit = first < last
    if not hit.any():
        return 0.0, 0, 0
    places = likely[hit]
    breaks = np.flatnonzero(np.diff(places) != 1)
    runs = np.diff(np.concatenate(([-1], breaks, [len(places) - 1])))
    unique = np.unique(hashes[places])
    ranges = zip(
        np.searchsorted(index.hashes, unique, "left"), np.searchsorted(index.hashes, unique, "right"), strict=True
    )
    found = np.concatenate([index.items[start:end] for start, end in ranges])
    shares = np.bincount(found, minlength=len(index.sizes)) / np.maximum(index.sizes, 1)
    item = int(shares.argmax())
    return float(shares[item]), int(runs.max()) + index.ngram - 1, item
