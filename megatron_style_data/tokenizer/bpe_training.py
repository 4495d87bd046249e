"""Trains a byte-level BPE tokenizer and writes it as HF's ``tokenizer.json``: by our own trainer, or by HF's.

Both give the same file, byte for byte. Ours is faster where there is much text; compiling it takes some seconds, so HF's
is faster where there is little.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from megatron_style_data.atomic import atomic_write_text
from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.pieces import byte_level_alphabet
from megatron_style_data.tokenizer.progress import Progress
from megatron_style_data.tokenizer.special_tokens import SPECIAL_TOKENS
from megatron_style_data.tokenizer.split_pattern import SPLIT_PATTERN
from megatron_style_data.tokenizer.transformers_files import DEFINITION_FILE, write_tokenizer_config

SMALLEST_BPE_VOCABULARY = 256 + len(SPECIAL_TOKENS)

# Characters of text from which our own trainer takes less CPU time than HF's, compiling included (docs/tokenizer.md).
OURS_FROM_CHARACTERS = 3_000_000
# Of the time of a training, about, on Chinese text.
_COUNTING_SHARE = 0.15


def write_bpe(texts: Sequence[str], vocab_size: int, folder: Path, on_progress: Progress | None) -> None:
    """Trains by the faster of the two trainers for so much text (see ``write_bpe_by_numba``)."""
    write = write_bpe_by_numba if sum(map(len, texts)) >= OURS_FROM_CHARACTERS else write_bpe_by_hf
    write(texts, vocab_size, folder, on_progress)


def write_bpe_by_numba(texts: Sequence[str], vocab_size: int, folder: Path, on_progress: Progress | None) -> None:
    """Trains on ``texts`` and writes ``tokenizer.json`` with the files that transformers wants beside it.

    The first ids are ``SPECIAL_TOKENS``, then the 256 bytes, then what was merged.

    Args:
        texts: Training texts; all of them are used.
        vocab_size: Size wanted, special tokens and bytes included.
        folder: An existing folder.
        on_progress: Told how far it is.
    """
    from megatron_style_data.tokenizer.merge_learning import learn_merges  # numba takes a while to import
    from megatron_style_data.tokenizer.pretokens import count_pretokens

    spelling = byte_level_alphabet()
    byte_tokens = sorted(spelling, key=lambda byte: spelling[byte])  # HF numbers them by their spelling
    first = [token.encode() for token in SPECIAL_TOKENS] + [bytes([byte]) for byte in byte_tokens]
    byte_ids = [len(SPECIAL_TOKENS) + byte_tokens.index(byte) for byte in range(256)]
    counting, learning = _stages(on_progress, sum(map(len, texts)))
    learned = learn_merges(count_pretokens(texts, counting), first, byte_ids, vocab_size, learning)
    names = ["".join(spelling[byte] for byte in token) for token in learned.tokens]
    names[: len(SPECIAL_TOKENS)] = SPECIAL_TOKENS
    vocabulary = {name: number for number, name in enumerate(names)}
    if len(vocabulary) != len(names):
        raise RuntimeError("a token was learned twice")
    model = models.BPE(vocabulary, [(names[left], names[right]) for left, right in learned.merges])
    tokenizer = _with_our_split(model)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    _write(tokenizer, folder)


def write_bpe_by_hf(texts: Sequence[str], vocab_size: int, folder: Path, on_progress: Progress | None) -> None:
    """The same by HF tokenizers' own trainer: the reference. It draws its own bars on a terminal."""
    tokenizer = _with_our_split(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=on_progress is not None,
    )
    tokenizer.train_from_iterator(texts, trainer)
    _write(tokenizer, folder)


BPE_TRAINERS: Mapping[str, Callable[[Sequence[str], int, Path, Progress | None], None]] = MappingProxyType(
    {"auto": write_bpe, "numba": write_bpe_by_numba, "hf": write_bpe_by_hf}
)


def check_bpe_vocab_size(vocab_size: int) -> None:
    """Refuses a vocabulary without room for the 256 bytes and the special tokens.

    Raises:
        SettingError: ``vocab_size`` is too small.
    """
    if vocab_size < SMALLEST_BPE_VOCABULARY:
        raise SettingError(
            f"vocab_size {vocab_size} is too small: the 256 bytes and {len(SPECIAL_TOKENS)} special tokens need "
            f"{SMALLEST_BPE_VOCABULARY}; Chinese text wants 8000 or more (32000 is usual)."
        )


def _stages(
    on_progress: Progress | None, characters: int
) -> tuple[Callable[[int], None] | None, Callable[[float], None] | None]:
    """The two stages' own progress, as shares of the whole."""
    if on_progress is None:
        return None, None

    def counting(done: int) -> None:
        on_progress("counting pieces of text", _COUNTING_SHARE * done / max(1, characters))

    def learning(share: float) -> None:
        on_progress("learning merges", _COUNTING_SHARE + (1 - _COUNTING_SHARE) * share)

    return counting, learning


def _with_our_split(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _write(tokenizer: Tokenizer, folder: Path) -> None:
    atomic_write_text(folder / DEFINITION_FILE, tokenizer.to_str(pretty=True) + "\n")
    write_tokenizer_config(folder, trained_as="bpe")
