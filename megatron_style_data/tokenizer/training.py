"""Trains a tokenizer of any kind, proves it, publishes its folder, and says how it treats the text."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from types import MappingProxyType

from megatron_style_data.atomic import atomic_folder
from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.bpe_training import BPE_TRAINERS, check_bpe_vocab_size
from megatron_style_data.tokenizer.loading import load_tokenizer
from megatron_style_data.tokenizer.progress import Progress
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.self_test import self_test
from megatron_style_data.tokenizer.sentencepiece_training import check_sentencepiece_vocab_size, write_sentencepiece
from megatron_style_data.tokenizer.special_tokens import SPECIAL_TOKENS
from megatron_style_data.tokenizer.transformers_files import TOKENIZER_FILES

FREQUENT_CHARACTERS = 3500  # about what the standard list of common characters has at its first level
FREQUENT_PAIRS = 1000
_MEASURED_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Trainer:
    """One kind of tokenizer that can be trained.

    Attributes:
        check_vocab_size: Raises ``SettingError`` for a size that cannot be.
        write: By the trainer's name (the first is the usual one): trains on texts to a size, writes the files into a
            folder, and tells its progress.
    """

    check_vocab_size: Callable[[int], None]
    write: Mapping[str, Callable[[Sequence[str], int, Path, Progress | None], None]]


TRAINERS: Mapping[str, Trainer] = MappingProxyType(
    {
        "bpe": Trainer(check_bpe_vocab_size, BPE_TRAINERS),
        "sentencepiece": Trainer(check_sentencepiece_vocab_size, MappingProxyType({"auto": write_sentencepiece})),
        "sentencepiece-unigram": Trainer(
            check_sentencepiece_vocab_size,
            MappingProxyType({"auto": partial(write_sentencepiece, algorithm="unigram")}),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class TextFit:
    """How well a tokenizer fits a text.

    Attributes:
        characters_per_token: Characters of the text a token.
        bytes_per_token: UTF-8 bytes of the text a token.
        frequent: Number of frequent Han characters looked at, at most ``FREQUENT_CHARACTERS``.
        frequent_in_one_token: How many of them are one token.
        pairs: Number of frequent pairs of Han characters looked at, at most ``FREQUENT_PAIRS``; most are words.
        pairs_in_one_token: How many of them are one token.
    """

    characters_per_token: float
    bytes_per_token: float
    frequent: int
    frequent_in_one_token: int
    pairs: int
    pairs_in_one_token: int


def train_tokenizer(
    kind: str,
    texts: Sequence[str],
    vocab_size: int,
    output: str | Path,
    *,
    replace: bool = False,
    trainer: str = "auto",
    on_progress: Progress | None = None,
) -> Tokenizer:
    """Trains on ``texts`` and writes a folder that ``load_tokenizer`` and ``AutoTokenizer.from_pretrained`` load.

    The same texts in the same order give the same bytes. The folder appears only after the self-test.

    Args:
        kind: A key of ``TRAINERS``.
        texts: Training texts; all are used (``sample.py`` bounds them).
        vocab_size: Size wanted, special tokens and bytes included. A small corpus may give fewer.
        output: The folder to write.
        replace: Whether an existing tokenizer folder gives way.
        trainer: Which of the kind's trainers; for ``bpe`` they give the same tokenizer.
        on_progress: Told how far the training is, where the trainer can.

    Raises:
        SettingError: Unknown kind or trainer, too small a vocabulary, or an output that is in the way.
        StorageError: The folder cannot be written.
    """
    check_choice(kind, trainer, vocab_size)
    check_output(output, replace=replace)
    with atomic_folder(output, replace=True) as folder:
        TRAINERS[kind].write[trainer](texts, vocab_size, folder, on_progress)
        self_test(load_tokenizer(folder), SPECIAL_TOKENS, texts_within(texts, _MEASURED_CHARACTERS))
        check_output(output, replace=replace)  # minutes may have passed
    return load_tokenizer(output)


def check_choice(kind: str, trainer: str, vocab_size: int) -> None:
    """Refuses what cannot be trained.

    Raises:
        SettingError: Unknown kind or trainer, or too small a vocabulary.
    """
    if kind not in TRAINERS:
        raise SettingError(f"kind {kind!r} is not known; choose {' or '.join(TRAINERS)}.")
    if trainer not in TRAINERS[kind].write:
        raise SettingError(f"{kind} has no trainer {trainer!r}; choose {' or '.join(TRAINERS[kind].write)}.")
    TRAINERS[kind].check_vocab_size(vocab_size)


def check_output(output: str | Path, *, replace: bool) -> None:
    """Refuses an output folder that holds something: always what is not a tokenizer, a tokenizer unless replaced.

    Raises:
        SettingError: The output is in the way.
    """
    path = Path(output)
    if not path.exists():
        return
    if not path.is_dir():
        raise SettingError(f"{path}: is a file; expected a new folder for the tokenizer.")
    there = sorted(entry.name for entry in path.iterdir())
    others = [name for name in there if name not in TOKENIZER_FILES]
    if others:
        raise SettingError(
            f"{path}: holds {others[0]}, which is not a tokenizer's file, and would be lost; choose another output."
        )
    if there and not replace:
        raise SettingError(f"{path}: holds a tokenizer already; choose another output, or replace it with --force.")


def measure_fit(tokenizer: Tokenizer, texts: Sequence[str]) -> TextFit:
    """Measures a tokenizer on texts, on their first million characters and so without long waiting."""
    measured = texts_within(texts, _MEASURED_CHARACTERS)
    tokens = sum(map(len, tokenizer.encode_batch(list(measured))))
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = _most_frequent({character: count for character, count in counts.items() if _is_han(character)})
    pairs = _most_frequent(_pair_counts(measured))[:FREQUENT_PAIRS]
    return TextFit(
        characters_per_token=sum(map(len, measured)) / max(1, tokens),
        bytes_per_token=sum(len(text.encode("utf-8")) for text in measured) / max(1, tokens),
        frequent=len(frequent[:FREQUENT_CHARACTERS]),
        frequent_in_one_token=_in_one_token(tokenizer, frequent[:FREQUENT_CHARACTERS]),
        pairs=len(pairs),
        pairs_in_one_token=_in_one_token(tokenizer, pairs),
    )


def _most_frequent(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda string: (-counts[string], string))


def _in_one_token(tokenizer: Tokenizer, strings: list[str]) -> int:
    return sum(len(ids) == 1 for ids in tokenizer.encode_batch(strings))


def _pair_counts(texts: Sequence[str]) -> Counter[str]:
    """How often two Han characters stand side by side."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(map("".join, pairwise(text)))
    return Counter({pair: count for pair, count in counts.items() if _is_han(pair[0]) and _is_han(pair[1])})


def texts_within(texts: Sequence[str], characters: int) -> list[str]:
    """The first texts, as many as have ``characters`` characters together, and at least one."""
    total, count = 0, 0
    for text in texts:
        total += len(text)
        if total > characters and count:
            break
        count += 1
    return list(islice(texts, count))


def _is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf" or character >= "\U00020000"
