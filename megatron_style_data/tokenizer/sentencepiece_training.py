"""Trains a sentencepiece model (BPE or unigram) with byte fallback; writes it beside a ``tokenizer.json`` of the same ids."""

import io
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import sentencepiece

from megatron_style_data.atomic import atomic_write_bytes
from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.tokenizer.progress import Progress
from megatron_style_data.tokenizer.sentencepiece_proto import with_rounded_scores
from megatron_style_data.tokenizer.sentencepiece_to_json import SCORE_STEP, write_transformers_files
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, PADDING, SPECIAL_TOKENS
from megatron_style_data.tokenizer.transformers_files import MODEL_FILE

Algorithm = Literal["bpe", "unigram"]

UNKNOWN_PIECE = "<unk>"
_SECONDS_BETWEEN_SIGNS = 1.0
# Share of the characters of the texts that become pieces; the rarest others are spelt in bytes.
_CHARACTER_COVERAGE = 0.9995

_SPACE = "▁"
# A corpus without a space would otherwise have no piece for it.
_REQUIRED_CHARACTERS = _SPACE + "".join(map(chr, range(0x21, 0x7F)))
SMALLEST_SENTENCEPIECE_VOCABULARY = 256 + len(SPECIAL_TOKENS) + 1 + len(_REQUIRED_CHARACTERS)


def write_sentencepiece(
    texts: Iterable[str], vocab_size: int, folder: Path, on_progress: Progress | None, *, algorithm: Algorithm = "bpe"
) -> None:
    """Trains on ``texts`` and writes ``tokenizer.model`` with the files that transformers loads.

    The first ids are ``SPECIAL_TOKENS``, then ``<unk>`` (never used), then the 256 bytes. Spaces and line ends are kept
    as they are; digits stay single.

    Args:
        texts: Training texts; all of them are used.
        vocab_size: Size wanted, special tokens and bytes included.
        folder: An existing folder.
        on_progress: Told every second that the training goes on; how far it is the library does not say.
        algorithm: ``bpe`` merges frequent neighbours; ``unigram`` prunes a large vocabulary to the likeliest pieces.

    Raises:
        SettingError: ``vocab_size`` leaves no room for the characters of the texts.
        BadDataError: The texts are too poor to train on.
    """
    with _signs_of_life(on_progress):
        content = _train(_lines(texts), vocab_size, algorithm)
    _refuse_without_space(content)
    if algorithm == "unigram":
        content = with_rounded_scores(content, SCORE_STEP, "the new model")
    atomic_write_bytes(folder / MODEL_FILE, content)
    write_transformers_files(content, folder)


def check_sentencepiece_vocab_size(vocab_size: int) -> None:
    """Refuses a vocabulary without room for the bytes, the special tokens and ASCII.

    Raises:
        SettingError: ``vocab_size`` is too small.
    """
    if vocab_size < SMALLEST_SENTENCEPIECE_VOCABULARY:
        raise SettingError(
            f"vocab_size {vocab_size} is too small: the 256 bytes, {len(SPECIAL_TOKENS)} special tokens, "
            f"{UNKNOWN_PIECE} and ASCII need {SMALLEST_SENTENCEPIECE_VOCABULARY}; Chinese text wants 8000 or more "
            f"(32000 is usual)."
        )


@contextmanager
def _signs_of_life(on_progress: Progress | None) -> Iterator[None]:
    """Calls ``on_progress`` from a thread of its own; the library lets other threads run while it trains."""
    done = threading.Event()

    def tell(on_progress: Progress) -> None:
        while not done.wait(_SECONDS_BETWEEN_SIGNS):
            on_progress("sentencepiece trains, and does not say how far it is", None)

    thread = None if on_progress is None else threading.Thread(target=tell, args=(on_progress,), daemon=True)
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread is not None:
            thread.join()


def _train(lines: Iterator[str], vocab_size: int, algorithm: Algorithm) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            model_type=algorithm,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=_CHARACTER_COVERAGE,
            required_chars=_REQUIRED_CHARACTERS,
            # Text must come back as it went in.
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            eos_id=0,
            eos_piece=END_OF_TEXT,
            pad_id=1,
            pad_piece=PADDING,
            bos_id=-1,
            control_symbols=list(SPECIAL_TOKENS[2:]),
            unk_id=len(SPECIAL_TOKENS),
            unk_piece=UNKNOWN_PIECE,
            max_sentence_length=1 << 30,
            num_threads=1,  # the number is written into the model, which shall not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(str(error), vocab_size) from error
    return model.getvalue()


def _refuse_without_space(content: bytes) -> None:
    """The library leaves required characters out where the texts have no others, and a model without "▁" loses spaces."""
    model = sentencepiece.SentencePieceProcessor(model_proto=content)
    if model.piece_to_id(_SPACE) == model.unk_id():
        raise BadDataError(
            "the texts have letters, digits and signs of ASCII only and no space, of which sentencepiece makes a "
            "vocabulary that cannot spell a space; expected texts such as the tokenizer will meet, in Chinese or with "
            "spaces. Give other texts, or train with --kind bpe."
        )


def _training_error(message: str, vocab_size: int) -> Exception:
    too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if too_small:
        return SettingError(
            f"vocab_size {vocab_size} is too small: bytes, special tokens and the characters that make up "
            f"{_CHARACTER_COVERAGE:.2%} of the text need {too_small[1]}."
        )
    return RuntimeError(message)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of the texts: sentencepiece takes one sentence at a time, and line ends are spelt as bytes."""
    for text in texts:
        for line in text.split("\n"):
            if line:
                yield line
