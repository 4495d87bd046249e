"""What tokenizers make of the same texts: how many tokens, which characters they cut, how fast they are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.token_bytes import split_characters, token_byte_counts

# Characters of the texts that are written in both scripts for ``ScriptFit``.
_SCRIPT_CHARACTERS = 200_000
_NUMBER = "20260815"


@dataclass(frozen=True, slots=True)
class DomainFit:
    """One tokenizer on the texts of one domain.

    Attributes:
        characters: Characters of the texts.
        utf8_bytes: Their UTF-8 bytes.
        tokens: Tokens of the texts.
        han: Han characters among the characters, where the next is told.
        split_han: How many of these lie in more than one token; None where the tokenizer does not tell.
    """

    characters: int
    utf8_bytes: int
    tokens: int
    han: int
    split_han: int | None

    @property
    def characters_per_token(self) -> float:
        """Characters a token."""
        return self.characters / max(1, self.tokens)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes a token."""
        return self.utf8_bytes / max(1, self.tokens)


@dataclass(frozen=True, slots=True)
class CharacterFit:
    """How a tokenizer spells the characters of one set, each alone.

    Attributes:
        characters: Size of the set.
        in_one_token: How many of them are one token.
        tokens_per_character: Mean over the set.
    """

    characters: int
    in_one_token: int
    tokens_per_character: float


@dataclass(frozen=True, slots=True)
class TokenizerFit:
    """One tokenizer on all texts.

    Attributes:
        name: What it is called in tables.
        vocab_size: Highest id + 1.
        domains: Its fit by domain, in the order of the texts.
        characters: Its fit by set of characters (``character_sets``).
        number: How it cuts ``20260815``, digits by token.
        scripts: Characters a token of the same text in simplified and in traditional characters.
        megabytes_per_cpu_second: UTF-8 megabytes of text encoded a CPU-second, each text once.
    """

    name: str
    vocab_size: int
    domains: Mapping[str, DomainFit]
    characters: Mapping[str, CharacterFit]
    number: str
    scripts: tuple[float, float]
    megabytes_per_cpu_second: float


def fit_of(name: str, tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]) -> TokenizerFit:
    """Measures a tokenizer.

    Args:
        name: What it is called in tables.
        tokenizer: The tokenizer.
        texts: Texts by domain.
    """
    counts = token_byte_counts(tokenizer)
    domains: dict[str, DomainFit] = {}
    seconds = 0.0
    for domain, some in texts.items():
        started = time.process_time()
        encoded = tokenizer.encode_batch(list(some))
        seconds += time.process_time() - started
        domains[domain] = _domain_fit(some, encoded, counts)
    megabytes = sum(fit.utf8_bytes for fit in domains.values()) / 1e6
    return TokenizerFit(
        name=name,
        vocab_size=tokenizer.vocab_size,
        domains=domains,
        characters={what: _character_fit(tokenizer, characters) for what, characters in character_sets().items()},
        number=_number_cut(tokenizer),
        scripts=_script_fit(tokenizer, texts),
        megabytes_per_cpu_second=megabytes / max(seconds, 1e-9),
    )


def character_sets() -> dict[str, str]:
    """Han characters by how common they are, as GB 2312 sorts them: its first level, its second, and the others."""
    common: list[str] = []
    second: list[str] = []
    rare: list[str] = []
    for point in range(0x4E00, 0x9FA6):
        code = chr(point).encode("gb2312", "ignore")
        (rare if not code else common if code[0] <= 0xD7 else second).append(chr(point))
    return {"common": "".join(common), "less common": "".join(second), "rare": "".join(rare)}


def _domain_fit(texts: Sequence[str], encoded: Sequence[Sequence[int]], counts: NDArray[np.int32] | None) -> DomainFit:
    han = split_han = 0
    if counts is not None:
        for text, ids in zip(texts, encoded, strict=True):
            of_it, cut = split_characters(text, ids, counts)
            han, split_han = han + of_it, split_han + cut
    return DomainFit(
        characters=sum(map(len, texts)),
        utf8_bytes=sum(len(text.encode("utf-8")) for text in texts),
        tokens=sum(map(len, encoded)),
        han=han,
        split_han=None if counts is None else split_han,
    )


def _character_fit(tokenizer: Tokenizer, characters: str) -> CharacterFit:
    # Some tokenizers begin every text with a space of their own; after a line end they do not.
    line_end = len(tokenizer.encode_batch(["\n"])[0])
    alone = tokenizer.encode_batch(list(characters))
    after = tokenizer.encode_batch([f"\n{character}" for character in characters])
    lengths = [min(len(one), len(other) - line_end) for one, other in zip(alone, after, strict=True)]
    return CharacterFit(len(lengths), sum(length <= 1 for length in lengths), sum(lengths) / max(1, len(lengths)))


def _number_cut(tokenizer: Tokenizer) -> str:
    ids = tokenizer.encode_batch([_NUMBER])[0]
    return "|".join(part for part in (tokenizer.decode([number]).strip() for number in ids) if part)


def _script_fit(tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]) -> tuple[float, float]:
    import opencc

    excerpt: list[str] = []
    for some in texts.values():
        length = 0
        for text in some:
            excerpt.append(text)
            length += len(text)
            if length >= _SCRIPT_CHARACTERS // len(texts):
                break
    simplified = [opencc.OpenCC("t2s").convert(text) for text in excerpt]
    traditional = [opencc.OpenCC("s2t").convert(text) for text in simplified]
    rates = [
        sum(map(len, written)) / max(1, sum(map(len, tokenizer.encode_batch(written))))
        for written in (simplified, traditional)
    ]
    return rates[0], rates[1]
